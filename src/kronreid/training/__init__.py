"""Training: a way for each kind of model, configs, and the train command."""

# Lightning imports torchvision through torchmetrics, so the guard has to come first.
import kronreid.torchvision_guard  # noqa: F401
