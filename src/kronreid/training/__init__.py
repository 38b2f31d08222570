"""One way of training per kind of model, their configs, and the train command."""

# Lightning imports torchvision by way of torchmetrics, so the guard has to come first.
import kronreid.torchvision_guard  # noqa: F401
