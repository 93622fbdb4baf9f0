"""Weights by name and by file: what is accepted, and what each refusal says."""

from __future__ import annotations

import pickle

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torchvision.models import video

from actionpool.config.loading import parse_config
from actionpool.errors import CheckpointError, ConfigError
from actionpool.inference.checkpoint import save_checkpoint
from actionpool.models.backbones import GatedC3D, video_backbone
from actionpool.models.build import build_backbone, build_recognizer
from actionpool.models.weights import load_weight_file, load_weights

SMALL = {"name": "gated-c3d", "width": 0.125}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **options):
        raise LocalEntryNotFoundError("no connection to the hub")

    def refuse_url(*args, **options):
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse_url)


def backbone_config(**values):
    return parse_config({"model": {"backbone": values}}).model.backbone


def small():
    torch.manual_seed(1)
    return GatedC3D(width=0.125)


def file_of(tensors, folder, name="w.safetensors"):
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)
    return folder / name


def equal(backbone, tensors):
    return all(torch.equal(tensor, tensors[name]) for name, tensor in backbone.state_dict().items())


def test_published_names_of_torchvision(tmp_path):
    torch.manual_seed(0)
    whole = video.mc3_18(weights=None)
    backbone = video_backbone("mc3_18")
    path = file_of(whole.state_dict(), tmp_path)
    sentence = load_weight_file(backbone, path)
    assert str(path) in sentence
    assert torch.equal(backbone.stages["stage2"][0].conv1[0].weight, whole.layer2[0].conv1[0].weight)
    assert torch.equal(backbone.stages["stem"][1].running_var, whole.stem[1].running_var)


def test_a_file_of_our_own_names(tmp_path):
    source, target = GatedC3D(width=0.125), small()
    assert not equal(target, source.state_dict())
    load_weight_file(target, file_of(source.state_dict(), tmp_path))
    assert equal(target, source.state_dict())


def test_the_backbone_of_a_run(tmp_path):
    config = parse_config({"model": {"backbone": SMALL, "pooling": {"name": "grid-mlp", "widths": [8]}}})
    trained = build_recognizer(config.model, 3)
    save_checkpoint(tmp_path, trained, config, ("a", "b", "c"), {})
    target = small()
    load_weight_file(target, tmp_path / "model.safetensors")
    assert equal(target, trained.backbone.state_dict())


def test_another_layout_names_the_first_missing_and_unexpected(tmp_path):
    whole = {
        name: tensor for name, tensor in video.mc3_18(weights=None).state_dict().items() if name != "stem.0.weight"
    }
    whole["layer5.weight"] = torch.zeros(2)
    backbone = video_backbone("mc3_18")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(
        CheckpointError,
        match=r"w.safetensors does not fit.*1 missing, first 'stem.0.weight'; 1 unexpected, first 'layer5",
    ):
        load_weight_file(backbone, file_of(whole, tmp_path))
    assert equal(backbone, before)


def test_another_shape_is_named(tmp_path):
    tensors = small().state_dict()
    tensors["stages.gated1.gate.bias"] = torch.zeros(9)
    with pytest.raises(
        CheckpointError, match=r"another shape, first 'stages.gated1.gate.bias' \(9,\) instead of \(8,\)"
    ):
        load_weight_file(small(), file_of(tensors, tmp_path))


def test_the_weights_of_something_else_altogether(tmp_path):
    with pytest.raises(CheckpointError, match=r"missing, first 'stem.0.weight'; 1 unexpected, first 'conv1.weight'"):
        load_weight_file(video_backbone("r3d_18"), file_of({"conv1.weight": torch.zeros(2)}, tmp_path))


@pytest.mark.parametrize("wrapped", [False, True])
def test_pickles_only_where_they_are_allowed(wrapped, tmp_path):
    source = GatedC3D(width=0.125)
    value = source.state_dict()
    if wrapped:
        value = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in value.items()}}
    torch.save(value, tmp_path / "w.pth")
    target = small()
    with pytest.raises(CheckpointError, match=r"w.pth is a pickle.*add --allow-pickle-weights.*or convert"):
        load_weight_file(target, tmp_path / "w.pth")
    assert not equal(target, source.state_dict())
    load_weight_file(target, tmp_path / "w.pth", allow_pickle=True)
    assert equal(target, source.state_dict())


class Harmful:
    def __reduce__(self):
        return (open, ("harm.txt", "w"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda path: path.write_bytes(pickle.dumps(Harmful(), protocol=2)), "cannot be read as plain weights"),
        (lambda path: torch.save({"a": Harmful()}, path), "cannot be read as plain weights"),
        (lambda path: path.write_bytes(b"not a pickle"), "cannot be read as plain weights"),
        (lambda path: torch.save([1, 2], path), "holds list, expected tensors by name"),
    ],
)
def test_pickles_run_no_code(content, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=sentence):
        load_weight_file(small(), tmp_path / "w.pt", allow_pickle=True)
    assert not (tmp_path / "harm.txt").exists()


def test_files_that_are_not_there_or_broken(tmp_path):
    with pytest.raises(CheckpointError, match=r"--weights .*none.safetensors: there is no such file"):
        load_weight_file(small(), tmp_path / "none.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_weight_file(small(), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"name": "r3d_18", "weights": "default"}, "r3d_18 KINETICS400_V1"),
        ({"name": "s3d", "weights": "KINETICS400_V1"}, "s3d KINETICS400_V1"),
        ({"name": "tsn", "network": "resnet18", "weights": "default"}, r"timm/resnet18\.\w+"),
        ({"name": "tsn", "network": "resnet18", "weights": "fb_ssl_yfcc100m_ft_in1k"}, r"timm/resnet18.fb_ssl\w+"),
    ],
)
def test_offline_it_says_so_and_what_to_do(values, what, no_network):
    config = backbone_config(**values)
    with torch.device("meta"):
        backbone = build_backbone(config)
    with pytest.raises(CheckpointError, match=rf"{what} are not on this machine.*offline\? Fetch .*--weights FILE"):
        load_weights(backbone, config)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "i3d", "weights": "default"}, "no library publishes weights of 'i3d' by name.*--weights FILE"),
        ({"name": "r3d_18", "weights": "IMAGENET"}, "weights of r3d_18. Known: KINETICS400_V1, default"),
        ({"name": "tsn", "network": "resnet18", "weights": "a1_in2k"}, "Did you mean 'a1_in1k'"),
    ],
)
def test_unknown_names(values, sentence, no_network):
    config = backbone_config(**values)
    with torch.device("meta"):
        backbone = build_backbone(config)
    with pytest.raises(ConfigError, match=sentence):
        load_weights(backbone, config)


def test_by_name_the_librarys_own_tensors_are_loaded(monkeypatch):
    whole = video.mc3_18(weights=None)
    asked = []

    def download(url, **options):
        asked.append((url, options["check_hash"], options["weights_only"]))
        return whole.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    config = backbone_config(name="mc3_18", weights="default")
    backbone = build_backbone(config)
    assert load_weights(backbone, config) == "Weights of the backbone: mc3_18 KINETICS400_V1."
    assert asked == [(video.MC3_18_Weights.DEFAULT.url, True, True)]
    assert torch.equal(backbone.stages["stage4"][1].conv2[0].weight, whole.layer4[1].conv2[0].weight)


def test_by_name_from_the_hub(monkeypatch, tmp_path):
    import timm

    whole = timm.create_model("resnet18", pretrained=False)
    path = file_of(whole.state_dict(), tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, name, **options: str(path))
    config = backbone_config(name="tsn", network="resnet18", weights="default")
    backbone = build_backbone(config)
    assert "timm/resnet18." in load_weights(backbone, config)
    assert torch.equal(backbone.network.layer3[0].bn1.running_mean, whole.layer3[0].bn1.running_mean)
    assert torch.equal(backbone.network.conv1.weight, whole.conv1.weight)


def test_building_never_loads(no_network):
    for name in ("r3d_18", "i3d", "tsn"):
        values = {"name": name, "weights": "default"}
        if name == "tsn":
            values["network"] = "resnet18"
        with torch.device("meta"):
            build_backbone(backbone_config(**values))


def test_nothing_to_load():
    assert load_weights(small(), backbone_config(**SMALL)) is None
