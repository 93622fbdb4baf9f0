import copy
import os
import shutil
import subprocess
import sys

import pytest
import torch

from actionpool.inference.device import prepare_for_inference
from actionpool.models.aggregation import MeanAggregation
from actionpool.models.backbones import GatedC3D
from actionpool.models.pooling import AveragePooling
from actionpool.models.recognizer import Recognizer

REUSE = """
import resource, sys
import numpy as np
from actionpool.inference.device import resolve_device

if sys.argv[1] == "kept":
    resolve_device("cpu")
size = 3 * 2**20  # numpy asks for huge pages from 4 MB on
for _ in range(3):
    np.ones(size, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(size, np.uint8), np.ones(size, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="only the GNU C library can be told")
def test_on_the_cpu_freed_memory_is_used_again() -> None:
    # A threshold that the C library moves by itself would hide the difference.
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}

    def num_page_faults(mode: str) -> int:
        done = subprocess.run([sys.executable, "-c", REUSE, mode], env=environment, capture_output=True, check=True)
        return int(done.stdout)

    num_pages = 20 * 2 * 3 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert num_page_faults("kept") < num_pages / 10
    assert num_page_faults("freed") > num_pages / 2


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_is_the_same_and_has_its_own_layout_of_the_convolutions() -> None:
    torch.manual_seed(0)
    backbone = GatedC3D(width=0.125)
    recognizer = Recognizer(
        backbone, AveragePooling(backbone.out_channels), MeanAggregation(backbone.out_channels, 3)
    ).eval()
    clips, valid = torch.randn(1, 1, 1, 3, 16, 32, 32), torch.ones(1, 1, dtype=torch.bool)
    with torch.inference_mode():
        expected = copy.deepcopy(recognizer)(clips, valid).log_probs
        network = prepare_for_inference(recognizer, torch.device("cpu"), "fp32", compiled=True)
        torch.testing.assert_close(network(clips, valid).log_probs, expected, atol=1e-4, rtol=1e-4)
        for parameter in recognizer.parameters():
            if parameter.dim() == 5:
                parameter.zero_()
        torch.testing.assert_close(network(clips, valid).log_probs, expected, atol=1e-4, rtol=1e-4)
