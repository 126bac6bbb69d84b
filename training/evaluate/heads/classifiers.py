"""What is trained on frozen features: a linear layer on one vector a case, or attention over a bag of vectors.

    fitted = HEADS["cls"].fit(inputs, labels, classes, seed)   # one predictor for each of the head's settings
    scores = fitted[0](others)                                 # (N, K) float64, grows with belief in a class

Equal inputs and seed give equal predictors, bit for bit on one machine's CPU. Features are standardised with what
the training cases say, classes weigh alike however many cases they have. Settings run from the most to the least
restrained; inner cross-validation chooses among them (cross_validation.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .attention_mil import AttentionMIL

PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""L2 penalties of the linear heads: mean weighted cross-entropy + penalty / 2 |w|^2 on standardised features."""
STEPS = (50, 200, 600)
"""Steps of AdamW after which attention heads are judged: they are restrained by stopping early."""
BAGS_PER_STEP, LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 32, 2e-3, 1e-2, 0.1
_CHUNK = 256  # bags judged at once


@dataclass(frozen=True, eq=False)
class Bags:
    """N bags of different sizes: ``instances`` (T, C) of any float type, bag i being rows offsets[i] to offsets[i+1].

    Raises ValueError where a bag is empty or offsets do not fit.
    """

    instances: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.instances) or (np.diff(self.offsets) < 1).any():
            raise ValueError("offsets must begin at 0, end with the instances, and leave no bag empty")

    @classmethod
    def of(cls, bags: Sequence[np.ndarray]) -> Bags:
        """Bags (n_i, C) each, put together."""
        return cls(np.concatenate(bags), np.cumsum([0, *(len(bag) for bag in bags)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: np.ndarray) -> Bags:
        """The bags of these numbers, in this order."""
        return Bags.of([self.instances[self.offsets[i] : self.offsets[i + 1]] for i in index])

    def padded(self, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Some bags as (B, longest, C) float32 with zeros behind their ends, and their mask (B, longest) bool."""
        sizes = np.diff(self.offsets)[index]
        out = torch.zeros(len(index), int(sizes.max()), self.instances.shape[1])
        for row, (i, size) in enumerate(zip(index, sizes, strict=True)):
            out[row, :size] = torch.from_numpy(
                self.instances[self.offsets[i] : self.offsets[i] + size].astype(np.float32)
            )
        return out, torch.arange(out.shape[1])[None] < torch.from_numpy(sizes)[:, None]


Inputs = np.ndarray | Bags
Predictor = Callable[[Inputs], np.ndarray]


@dataclass(frozen=True)
class LinearHead:
    """Multinomial logistic regression on one vector a case, to convergence from zero: nothing in it is drawn."""

    takes: str
    """Which features of a case: a name of embeddings/vectors.py."""
    words: str
    settings: tuple[float, ...] = PENALTIES

    def fit(self, inputs: np.ndarray, labels: np.ndarray, classes: int, seed: int, device: str) -> list[Predictor]:
        """(N, C) and class numbers (N,), all classes among them -> a predictor for each penalty."""
        from sklearn.linear_model import LogisticRegression

        x = inputs.astype(np.float64)
        mean, scale = x.mean(axis=0), _scale(x.std(axis=0))
        x = (x - mean) / scale
        weights = _class_weights(labels, classes)[labels]
        predictors = []
        start = None
        for penalty in self.settings:
            model = LogisticRegression(C=1 / (penalty * len(x)), max_iter=2000, tol=1e-6, warm_start=True)
            if start is not None:  # the solution for the stronger penalty is near this one's
                model.coef_, model.intercept_ = start
            model.fit(x, labels, sample_weight=weights)
            start = model.coef_.copy(), model.intercept_.copy()
            predictors.append(_linear_predictor(*start, mean, scale))
        return predictors


@dataclass(frozen=True)
class AttentionHead:
    """Attention over a bag (attention_mil.py): AdamW on balanced cross-entropy, judged at several steps."""

    takes: str
    words: str
    gated: bool
    settings: tuple[int, ...] = STEPS

    def fit(self, inputs: Bags, labels: np.ndarray, classes: int, seed: int, device: str) -> list[Predictor]:
        """Bags and class numbers (N,), all classes among them -> a predictor for each number of steps."""
        mean, scale = (torch.from_numpy(v.astype(np.float32)).to(device) for v in _moments(inputs.instances))
        weights = torch.from_numpy(_class_weights(labels, classes).astype(np.float32)).to(device)
        truth = torch.from_numpy(labels.astype(np.int64)).to(device)
        order = np.random.default_rng(seed)
        predictors = []
        with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
            torch.manual_seed(seed)
            model = AttentionMIL(inputs.instances.shape[1], classes, self.gated)
            # From zero the first steps fit the mean of the bag. From random weights the attention first learns to
            # serve a random direction: on bags of one telling instance, the held-out AUROC after 600 steps was 0.34
            # to 1.00 by seed so, and 0.98 to 1.00 from zero.
            nn.init.zeros_(model.classify.weight)
            nn.init.zeros_(model.classify.bias)
            model.to(device)
            optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
            queue = np.zeros(0, int)
            for step in range(1, self.settings[-1] + 1):
                if len(queue) < min(BAGS_PER_STEP, len(inputs)):
                    queue = np.append(queue, order.permutation(len(inputs)))
                batch, queue = queue[:BAGS_PER_STEP], queue[BAGS_PER_STEP:]
                bags, mask = (part.to(device) for part in inputs.padded(batch))
                logits = model(F.dropout((bags - mean) / scale, DROPOUT), mask).logits
                loss = F.cross_entropy(logits, truth[batch], weight=weights, reduction="none").mean()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                if step in self.settings:
                    predictors.append(self._predictor(model, classes, mean, scale))
        return predictors

    def _predictor(self, model: AttentionMIL, classes: int, mean: torch.Tensor, scale: torch.Tensor) -> Predictor:
        """The network as it is now, for later."""
        kept = AttentionMIL(len(mean), classes, self.gated).to(mean.device)
        kept.load_state_dict(model.state_dict())

        @torch.inference_mode()
        def predict(inputs: Bags) -> np.ndarray:
            parts = []
            for first in range(0, len(inputs), _CHUNK):
                bags, mask = inputs.padded(np.arange(first, min(first + _CHUNK, len(inputs))))
                judged = kept((bags.to(mean.device) - mean) / scale, mask.to(mean.device))
                parts.append(judged.logits.double().cpu().numpy())
            return class_scores(np.concatenate(parts))

        return predict


Head = LinearHead | AttentionHead
HEADS: dict[str, Head] = {
    "cls": LinearHead("cls", "linear on the class token"),
    "mean": LinearHead("mean", "linear on the mean patch token"),
    "point": LinearHead("point", "linear on the patch token at the point"),
    "abmil": AttentionHead("instances", "attention over instances (Ilse et al. 2018)", gated=False),
    "abmil-gated": AttentionHead("instances", "gated attention over instances (Ilse et al. 2018)", gated=True),
}


def class_scores(logits: np.ndarray) -> np.ndarray:
    """Logits (N, K) -> log odds of each class against the others: ranks as probabilities do, but never saturates."""
    out = np.empty_like(logits, dtype=np.float64)
    for k in range(logits.shape[1]):
        others = np.delete(logits, k, axis=1).astype(np.float64)
        top = others.max(axis=1)
        out[:, k] = logits[:, k] - top - np.log(np.exp(others - top[:, None]).sum(axis=1))
    return out


def _linear_predictor(coef: np.ndarray, intercept: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Predictor:
    def predict(inputs: np.ndarray) -> np.ndarray:
        logits = ((inputs.astype(np.float64) - mean) / scale) @ coef.T + intercept
        return class_scores(np.hstack([-logits / 2, logits / 2]) if logits.shape[1] == 1 else logits)

    return predict


def _class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights that make every class count alike, with mean 1 over the cases; ValueError where a class is absent."""
    counts = np.bincount(labels, minlength=classes)
    if len(counts) > classes or counts.min() == 0:
        raise ValueError(f"training needs cases of all {classes} classes; it has {counts.tolist()}")
    return len(labels) / (classes * counts)


def _moments(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each channel over all instances, float64 sums in chunks."""
    total, squares = np.zeros(instances.shape[1]), np.zeros(instances.shape[1])
    for first in range(0, len(instances), 65536):
        part = instances[first : first + 65536].astype(np.float64)
        total += part.sum(axis=0)
        squares += (part**2).sum(axis=0)
    mean = total / len(instances)
    return mean, _scale(np.sqrt(np.maximum(0.0, squares / len(instances) - mean**2)))


def _scale(deviation: np.ndarray) -> np.ndarray:
    """Standard deviations to divide by; a channel that does not vary stays as it is."""
    return np.where(deviation > 1e-6, deviation, 1.0)
