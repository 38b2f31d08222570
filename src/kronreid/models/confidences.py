"""The way "KPM w/o warp" (Sec. 3.1.4, 4.5), which classifies the matching confidences β of Eq. 5."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.models.pairs import Encoded, EncodedMaps, Named, Way
from kronreid.ops.comparisons import by_lists, score_confidences
from kronreid.ops.matching import correspondence_of_all

#: Height and width to which `ConfidenceClassifier` resizes the maps: the size of scale-1 for 256×128 inputs.
CONFIDENCE_PLACES = (8, 4)


class ConfidenceClassifier(nn.Module):
    """A small network from the matching confidences to a logit.

    The paper says only "a few of convolution and fully-connected layers". Here the input has one channel per
    place of the first map: its H×W confidences over the second map (the submatrices of Eq. 7). Two blocks of
    3×3 convolution to 64 channels, BN and ReLU follow, then a fully connected layer to 256 with BN and ReLU,
    and a fully connected layer to the logit. Maps of another size than 8×4 are first resized by adaptive
    average pooling, so the layers fit any input.
    """

    def __init__(self) -> None:
        super().__init__()
        places = CONFIDENCE_PLACES[0] * CONFIDENCE_PLACES[1]
        layers: list[nn.Module] = []
        for inputs in (places, 64):
            layers += [nn.Conv2d(inputs, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        # A convolution over all places at once is a fully connected layer.
        layers += [nn.Conv2d(64, 256, CONFIDENCE_PLACES, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 1))

    def forward(self, beta: Tensor, size: tuple[int, int]) -> Tensor:
        """Classify β (P, H·W, H·W) of maps of size (H, W); returns float32 logits (P,)."""
        count, places, _ = beta.shape
        over_y = F.adaptive_avg_pool2d(beta.view(count, places, *size), CONFIDENCE_PLACES)
        over_x = over_y.flatten(2).transpose(1, 2).reshape(count, -1, *size)
        both = F.adaptive_avg_pool2d(over_x, CONFIDENCE_PLACES).flatten(2).transpose(1, 2)
        return self.layers(both.reshape(count, -1, *CONFIDENCE_PLACES)).squeeze(1).float()


class Confidences(Way):
    """Classifies β. It warps nothing, so it does not use the attention weights."""

    one_scale = True

    def __init__(self, channels: list[int], temperature: float, scale_losses: bool) -> None:
        super().__init__(channels, temperature, scale_losses)
        self.classifier = ConfidenceClassifier()
        self.layers = {"classifier": self.classifier}

    def logits(self, pictures: Encoded, first: Tensor, second: Tensor) -> list[Tensor]:
        maps = pictures.scales[0].maps
        height, width = maps.shape[2:]
        return [self.classifier(self.correspondence(maps[first], maps[second]), (height, width))]

    def score(self, queries: EncodedMaps, candidates: EncodedMaps, lists: Tensor | None = None) -> Tensor:
        x, y = queries.scales[0], candidates.scales[0]
        classify = partial(self.classifier, size=x.size)
        score = partial(score_confidences, temperature=self.temperature, classify=classify)
        return by_lists(score, x, y, lists)

    def exported(self, queries: Named, candidates: Named, sizes: list[tuple[int, int]]) -> Tensor:
        x, y = queries["maps_1"], candidates["maps_1"]
        beta = correspondence_of_all(x, y, self.temperature, self.cosine).transpose(1, 2)
        return self.classifier(beta.flatten(0, 1), sizes[0]).view(x.shape[0], y.shape[0])
