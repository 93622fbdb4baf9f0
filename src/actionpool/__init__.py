"""actionpool: recognise human actions in video by learning where to look."""
