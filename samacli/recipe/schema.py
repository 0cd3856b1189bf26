"""What a recipe may say: typed, documented, and closed to unknown keys.

A recipe is data. Every default of the product is here and nowhere else, so that the resolved
recipe written beside a result is the whole truth about the run that made it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from samacli.recipe.optimizers import check_optimizer
from samacli.recipe.paths import possible_path
from samacli.registry import FEATURES, METHODS, OURS, PRESETS, scores_of

Task = Literal["text-classification", "image-classification"]
Source = Literal[
    "auto",
    "hub",
    "csv",
    "tsv",
    "json",
    "jsonl",
    "parquet",
    "arrow",
    "imagefolder",
    "wrench",
    "demo",
]
if TYPE_CHECKING:  # a Literal that is computed is beyond it
    ReweightBaseline = str
    PruneScore = str
    Feature = str
    Preset = str
else:
    ReweightBaseline = Literal[tuple(name for name in METHODS if name not in OURS)]
    PruneScore = Literal[("sama", *scores_of("prune"))]
    Feature = Literal[tuple(FEATURES)]
    Preset = Literal[tuple(PRESETS)]
PruneBaseline = Literal["full", "random"]
Tracker = Literal["tensorboard", "trackio", "wandb"]
Keep = Annotated[float, Field(gt=0)]
PathOrName = Annotated[str, AfterValidator(possible_path)]
# Settled when the data, the model and the device are known (`samacli.training.settle`).
Auto = Literal["auto"]


def _paths_or_names(given: Any) -> Any:
    """Before the types of the union are tried, whose errors would be two."""
    several = given if isinstance(given, list | tuple) else [given]
    if given is None:
        return None
    if not all(isinstance(one, str) for one in several):
        raise ValueError("should be a text, or a list of them")
    found = list(dict.fromkeys(map(possible_path, several)))
    if not found:
        raise ValueError("the list is empty; name a split or a file, or leave it out")
    return found[0] if len(found) == 1 else found


PathsOrNames = Annotated[str | list[str] | None, BeforeValidator(_paths_or_names)]


class Section(BaseModel):
    """A part of a recipe: frozen once validated, and without room for unknown keys."""

    # Inputs, which may hold secrets, are not in the library's own messages.
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True
    )


class Columns(Section):
    """Which column holds what."""

    text: str = Field("text", description="column with the text")
    text_pair: str | None = Field(None, description="column with a second text (pairs), if any")
    image: str = Field("image", description="column with the image (bytes, path or decoded)")
    label: str = Field("label", description="column with the given label, right or wrong")
    id: str | None = Field(
        None,
        description="column with a name of each training row, which goes with it into "
        "scores.parquet, suspects.csv, keep.csv and `sama inspect`; default: an image's file",
    )
    true_label: str | None = Field(
        None,
        description="column with the true label: the label of the meta, validation and test "
        "splits; in the training split it is used to measure only, never to train or to choose",
    )

    @model_validator(mode="after")
    def _a_pair_is_of_two_columns(self) -> Columns:
        if self.text_pair is not None and self.text_pair == self.text:
            raise ValueError(
                f"text_pair is '{self.text}', the column of the first text itself; name another, "
                "or leave it out"
            )
        return self


class Noise(Section):
    """Damage done on purpose to the training split, to measure what the method repairs."""

    kind: Literal["none", "symmetric", "class-conditional"] = Field(
        "none",
        description="symmetric: a wrong label drawn evenly from the other classes; "
        "class-conditional: each class is confused with a fixed other class",
    )
    rate: float = Field(0.0, ge=0, lt=1, description="fraction of labels made wrong")
    transition: dict[str, str] | None = Field(
        None,
        description="class-conditional only: the class that each class is confused with, by name; "
        "default: the next class in order. Classes that are not named keep their labels",
    )
    imbalance: float = Field(
        1.0,
        ge=1,
        description="size of the largest class over the smallest, by dropping rows in an "
        "exponential profile over the class order; 1 leaves the balance as it is",
    )

    @model_validator(mode="after")
    def _rate_and_kind_agree(self) -> Noise:
        if self.kind == "none" and self.rate > 0:
            raise ValueError(
                "rate is above 0 but kind is 'none'; choose symmetric or class-conditional"
            )
        if self.kind != "class-conditional" and self.transition is not None:
            raise ValueError("transition needs kind: class-conditional")
        return self


class Data(Section):
    """Where the data come from and how they are read."""

    source: Source = Field("auto", description="kind of source; auto finds it out from the path")
    path: PathOrName | None = Field(
        None,
        description="hub name, directory, file, or (source: demo) bbc-news, digits, fashion-mnist",
    )
    config: str | None = Field(None, description="hub: configuration of the dataset")
    revision: str | None = Field(None, description="hub: commit, tag or branch")
    train: PathOrName | None = Field(
        "train", description="training split: a split's name or a file"
    )
    meta: PathsOrNames = Field(
        None,
        description="clean split for the meta level: a split's name, a file, several of them in a "
        "list (of a row that two have, the later one's label counts), or 'train' to take "
        "meta_per_class rows a class out of the training split before noise is injected",
    )
    validation: PathOrName | None = Field(None, description="held-out split, never trained on")
    test: PathOrName | None = Field(
        None,
        description="test split: a split's name, a file, or 'train' to hold test_fraction of the "
        "training split out before noise is injected",
    )
    meta_per_class: int | None = Field(None, ge=1, description="rows a class in the meta split")
    test_fraction: float | None = Field(None, gt=0, lt=1, description="with test: train")
    max_train_rows: int | None = Field(
        None, ge=1, description="seeded subset of the training split"
    )
    max_test_rows: int | None = Field(
        None, ge=1, description="seeded subset of the test split, the same for all runs"
    )
    columns: Columns = Columns()
    abstain: Literal["drop", "keep"] = Field(
        "drop",
        description="rows without a given label (abstentions): drop them, or keep them, at weight "
        "0 unless labels are corrected",
    )
    clean_given_labels: bool = Field(
        True,
        description="where the clean rows' file says what they were labelled with too, as the "
        "training rows were, that tells how labels go wrong; false: as if it did not",
    )
    minus_one: Literal["ask", "class", "none"] = Field(
        "ask",
        description="what −1 in a column of numbers is: a class like the others, or no label. ask: "
        "a class where the clean labels have it or it is one of two, else the run stops and asks. "
        "In a source that names its classes by number −1 is always no label",
    )
    quoting: Literal["checked", "trusted", "none"] = Field(
        "checked",
        description="CSV: cells in double quotes hold separators and line ends; checked: one that "
        "seems to swallow other rows is refused; trusted: it is not; none: a quote is a character "
        "like others",
    )
    escape: Literal["none", "backslash"] = Field(
        "none", description='CSV: backslash where \\" within a quoted cell stands for a quote'
    )
    noise: Noise = Noise()
    max_length: int = Field(128, ge=4, le=8192, description="text: tokens an example, at most")
    image_root: PathOrName | None = Field(
        None,
        description="image: folder that image paths in tables start from and may not leave; "
        "default: the table's own folder",
    )
    image_size: int | None = Field(
        None, ge=8, le=1024, description="image: side in pixels; default: the data's or the model's"
    )
    shortest_edge: int | None = Field(
        None,
        ge=8,
        le=2048,
        description="image: the shorter side is brought to this many pixels, and the middle of "
        "image_size cut out; default: as the model's processor does, or stretched without one",
    )
    normalize: Literal["auto", "model", "train"] = Field(
        "auto",
        description="image: size and channel statistics from the model's own processor or from the "
        "training split; auto takes the model's where it is pretrained",
    )
    memory_limit_mb: int = Field(
        2048,
        ge=0,
        description="image: a split is held as uint8 up to this size, and decoded lazily beyond",
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="image: processes that decode lazily, in each training process; default: its "
        "share of the cores but one, between 1 and 8. Held pixels need none",
    )
    bad_images: Literal["refuse", "skip"] = Field(
        "refuse",
        description="image: what to do about one that is missing or no image; skip leaves its row "
        "out and says how many, and decodes every image once beforehand to find damaged ones too",
    )
    seed: int = Field(
        0, ge=0, description="seed of splits, subsets and noise, the same for all runs"
    )
    meta_seed: int | None = Field(
        None, ge=0, description="seed of which meta_per_class rows are taken; default: data.seed"
    )

    @model_validator(mode="before")
    @classmethod
    def _train_is_the_training_split(cls, values: Any) -> Any:
        """Where the training split is a file of its own, "train" means that file."""
        if not isinstance(values, dict) or values.get("path") is not None:
            return values
        train = values.get("train", "train")
        carved = [role for role in ("meta", "test") if values.get(role) == "train"]
        return {**values, **dict.fromkeys(carved, train)}

    @property
    def metas(self) -> list[str]:
        """The names that make up the meta split."""
        return [self.meta] if isinstance(self.meta, str) else self.meta or []

    @model_validator(mode="after")
    def _several_clean_sets_are_whole(self) -> Data:
        if len(self.metas) > 1:
            if self.meta_per_class is not None:
                raise ValueError(
                    "meta_per_class takes rows out of one split, and meta names several; name one, "
                    "or leave meta_per_class out"
                )
            for role in ("train", "validation", "test"):
                name = getattr(self, role)
                if name in self.metas:
                    raise ValueError(f"meta and {role} both name '{name}'; name it once")
        return self

    @model_validator(mode="after")
    def _carved_splits_have_a_size(self) -> Data:
        if self.meta is not None and self.meta == self.train and self.meta_per_class is None:
            raise ValueError(
                "meta is taken out of the training split, so meta_per_class must say how much"
                + self.or_splits_of_a_folder("meta")
            )
        if self.test is not None and self.test == self.train and self.test_fraction is None:
            raise ValueError(
                "test is taken out of the training split, so test_fraction must say how much"
                + self.or_splits_of_a_folder("test")
            )
        return self

    def or_splits_of_a_folder(self, role: str) -> str:
        """What else to do where a split and the training split are named by the same folder."""
        name = str(getattr(self, role))
        if not Path(name).expanduser().is_dir():
            return ""
        return (
            f"; or take the splits that the folder holds: data.path={name} "
            f"data.train=train data.{role}={role}"
        )


class Model(Section):
    """What is trained."""

    name: PathOrName = Field(
        "minilm",
        description="hub name or path of a model; 'minilm' (packaged, extra demo), "
        "'resnet18-cifar', 'resnet32-small', 'resnet14-small' or "
        "'resnet8-small' (images, from scratch)",
    )
    revision: str | None = None
    from_config: bool = Field(False, description="random initial weights from the model's config")
    config: dict[str, Any] = Field({}, description="values that replace the model config's own")
    freeze: list[str] | Auto = Field(
        "auto",
        description="parameters that stay as they are, by shell patterns on their names; auto: on "
        "a CPU the embeddings and the lower two thirds of a pretrained BERT's or RoBERTa's layers, "
        "else none",
    )
    cache_frozen: bool | Auto = Field(
        "auto",
        description="text: pass every example through the frozen lower layers once, without their "
        "dropout, and train on what they gave; up to data.memory_limit_mb; auto: where "
        "freeze is auto and freezes any",
    )


class Optimizer(Section):
    """Any optimiser of `torch.optim`.

    The meta step takes its adaptation, ∂u/∂g, from a formula for adamw, adam, sgd, nadam, radam,
    adamax, rmsprop, adagrad and adadelta, and from a dry run of the step for any other.
    """

    name: Annotated[str, AfterValidator(str.lower)] = Field(
        "auto",
        description="a class of torch.optim by its name, such as adamw, sgd, Adafactor; auto: sgd "
        "for image models from scratch, else adamw",
    )
    learning_rate: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto",
        description="the highest of the schedule; auto: 5e-5 · (768 / the model's width)², which "
        "is 5e-5 for BERT-base and 2e-4 for MiniLM; from scratch 5e-4, or 0.05 with sgd",
    )
    weight_decay: Annotated[float, Field(ge=0)] | Auto = Field(
        "auto",
        description="decoupled or not, as the class has it; auto: 0.01, or 5e-4 with sgd",
    )
    decay_norms: bool = Field(
        False, description="weight decay also on biases and normalisation layers"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd")
    nesterov: bool = Field(False, description="sgd")
    arguments: dict[str, Any] = Field(
        {}, description="others that the class takes, by their names in torch: betas, eps, …"
    )

    @property
    def alone(self) -> Optimizer:
        """The same without a recipe around it: `auto` is what BERT-base is fine-tuned with."""
        values = {"name": "adamw", "learning_rate": 5e-5, "weight_decay": 0.01}
        auto = {key: value for key, value in values.items() if getattr(self, key) == "auto"}
        return self.model_copy(update=auto) if auto else self

    @property
    def given(self) -> dict[str, Any]:
        """All that the class is made with, but for the parameters and their weight decay."""
        given = {"lr": self.alone.learning_rate, **self.arguments}
        if self.name == "sgd":
            given["momentum"] = self.momentum
            given["nesterov"] = self.nesterov and self.momentum > 0
        return given

    @model_validator(mode="after")
    def _torch_has_it(self) -> Optimizer:
        keys = {"lr": "learning_rate", "weight_decay": "weight_decay"}
        if self.name == "sgd":
            keys |= {"momentum": "momentum", "nesterov": "nesterov"}
        for argument in self.arguments.keys() & keys:
            raise ValueError(f"arguments.{argument} has a key of its own: {keys[argument]}")
        if self.arguments or self.name not in ("auto", "adamw", "sgd"):
            # The others need no look at torch.
            decay = 0.0 if self.weight_decay == "auto" else self.weight_decay
            check_optimizer(self.alone.name, self.given, decay)
        return self


class Training(Section):
    """One training run of the base model; the same for our method and every baseline."""

    steps: int | None = Field(None, ge=1, description="optimiser steps; wins over epochs")
    epochs: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto",
        description="passes over the training split, if steps is not set; auto: as many as a model "
        "of its kind takes, but no fewer than 200 steps (500 from scratch) and no more than 20,000",
    )
    batch_size: Annotated[int, Field(ge=1)] | Auto = Field(
        "auto",
        description="examples a step, in each process; auto: 16 texts on a CPU, else 32",
    )
    eval_batch_size: int = Field(64, ge=1)
    accumulation: int = Field(1, ge=1, description="batches summed into one optimiser step")
    optimizer: Optimizer = Optimizer()
    schedule: Literal["constant", "linear", "cosine", "one-cycle"] = Field(
        "linear",
        description="after the warm-up: constant, or down to 0; one-cycle: a cosine up from 1/25 "
        "of the rate and a cosine down to 1/250,000, as torch's OneCycleLR with momentum as it is",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="fraction of the steps with a rising rate")
    clip_norm: float | None = Field(1.0, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 autocast where the device computes in it, else fp32"
    )
    ema_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay a step of the averaged model (uncertainty, predictions), at most: it "
        "rises to this over the first steps",
    )
    early_stopping: bool = Field(
        False,
        description="every method keeps its best state on data.validation, looked at ten times",
    )
    augment: list[Literal["crop", "resized-crop", "flip", "cutout"]] = Field(
        [],
        description="image, drawn anew for every example of a training batch. crop: shifted by up "
        "to an eighth of the side; resized-crop: 8 to 100 % of the image file's area, decoded "
        "lazily; flip: mirrored; cutout: a quarter of the area blanked",
    )
    compile: bool = Field(
        False,
        description="training passes by torch.compile: faster steps for minutes of start-up; the "
        "passes of a meta step stay as they are",
    )

    @property
    def rows(self) -> int:
        """`batch_size`; 32 where `auto` is not settled."""
        return 32 if self.batch_size == "auto" else self.batch_size

    @model_validator(mode="after")
    def _one_kind_of_crop(self) -> Training:
        if {"crop", "resized-crop"} <= set(self.augment):
            raise ValueError("augment has both crop and resized-crop; name one of them")
        return self


class Meta(Section):
    """The meta level: how the reweighter learns."""

    method: Literal["sama", "sama-na"] = "sama"
    reweighter: Literal["auto", "amortised", "stepwise"] = Field(
        "auto",
        description="how weights are learnt; amortised: the slopes of the clean loss by each row's "
        "weight are kept, and the weights fitted to all of them, from what is known of a row "
        "(reweight.features, its prediction, and a pretrained text model's representation); "
        "stepwise: a meta-weight-net takes a gradient step at each meta step (the paper's way); "
        "auto: amortised where `sama reweight` has a clean set, labels as given and a pretrained "
        "text model, else stepwise",
    )
    unroll: Annotated[int, Field(ge=1)] | Auto = Field(
        "auto",
        description="base steps between two meta steps; auto: as many as leave a hundred meta "
        "steps, from 1 to 10",
    )
    batch_size: int = Field(32, ge=1)
    class_balanced: bool = Field(
        False, description="as many clean examples of each class in every batch"
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="AdamW on the reweighter; falls linearly to 0"
    )
    weight_decay: float = Field(
        1.0,
        ge=0,
        description="decoupled decay of the reweighter: keeps weights from running off to 0",
    )
    standardize: bool = Field(
        False,
        description="bring each feature to mean 0 and deviation 1 in the batch: where all losses "
        "are alike the weights otherwise take long to part",
    )
    warmup: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="fraction of the steps before the first meta step: until the "
        "base model has learnt something, its losses say nothing; default: 0.25, or 0.05 where "
        "weights are fitted to slopes, which say something from the start",
    )
    nudge: float = Field(
        0.0,
        ge=0,
        description="at each meta step the base model is also moved by so much of what its "
        "step would change for the clean batch's gradient (as the reference code does): a clean "
        "share of the base loss by another name",
    )
    derivative: Literal["auto", "central", "one-sided", "forward", "contraction"] = Field(
        "auto", description="how the directional derivative of each example is taken"
    )
    synchronize: Literal["gradient", "direction"] = Field(
        "gradient",
        description="what several processes average at a meta step: the meta gradient alone, or "
        "also the direction that it is taken along (exact; as large as the model)",
    )

    @property
    def every(self) -> int:
        """After how many base steps a meta step is taken; 1 where `auto` is not settled."""
        return 1 if self.unroll == "auto" else self.unroll


class Reweight(Section):
    features: list[Feature] = Field(
        ["loss", "label"],
        min_length=1,
        description="what the meta-weight-net sees of an example: "
        + "; ".join(f"{name}: {feature.description}" for name, feature in FEATURES.items()),
    )
    correction: bool = Field(False, description="also learn a soft label for each example")
    prior: Literal["auto", "linear", "none"] = Field(
        "auto",
        description="correction: a belief fixed before training, of a linear model on the "
        "pretrained representation (mean of the last but one layer), fitted on given and clean "
        "labels; auto: linear for pretrained text models",
    )
    class_frequencies: Literal["auto", "clean", "training"] = Field(
        "auto",
        description="which frequencies of classes the model should expect: the clean set's, or the "
        "training data's, estimated, when clean rows were drawn evenly from them; auto: training "
        "with correction, a linear prior and a clean set that is too even for a random draw, else "
        "clean",
    )
    clean_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="part that clean rows have in the base model's loss, beside their use at the "
        "meta level; 0: none",
    )
    clean_batch_size: int | None = Field(
        None,
        ge=1,
        description="clean rows that every batch of the base model holds on top of "
        "training.batch_size others; default: as many again",
    )
    calibration_folds: int = Field(
        0,
        ge=0,
        le=20,
        description="models that are trained on all but one of so many parts, for calibrated "
        "probabilities of wrong labels, where 500 clean rows or more carry the label they were "
        "given; 0: none, and each row has a score for being wrong that is not calibrated",
    )
    baselines: list[ReweightBaseline] = Field(
        ["noisy", "clean", "mixed", "no-meta-steps"],
        description="what is trained beside sama; no-meta-steps, which takes nearly as long, "
        "says what its meta steps are worth",
    )
    measure_export: bool = Field(
        True,
        description="where baselines are run, also train afresh on the exported data, as "
        "`sama train DIR/dataset` does, and measure that beside the model of the run",
    )


class Prune(Section):
    keep: list[Keep] = Field(
        [0.7],
        min_length=1,
        description="a fraction (up to 1) or a count (above 1); the first is exported, "
        "all are measured by retraining",
    )
    class_balanced: bool = Field(
        True,
        description="keep each given class in its proportion; without it a low keep fraction can "
        "lose the classes whose examples score low",
    )
    features: list[Feature] = Field(
        ["loss", "uncertainty"], min_length=1, description="what the meta-weight-net sees"
    )
    scores: list[PruneScore] = Field(
        ["sama"],
        min_length=1,
        description="what is written to scores.parquet and, with verify, measured by retraining; "
        "sama is always made, and chooses what is exported",
    )
    trust: Literal["auto", "none"] = Field(
        "auto",
        description="auto: a model that has not seen a part of the rows says how many labels are "
        "wrong, the losses during the scoring run say which; they are pruned first; none: the "
        "paper's way, all rows alike",
    )
    order: Literal["auto", "trial", "highest", "even", "lowest"] = Field(
        "auto",
        description="which trusted rows are kept first; auto: where the model learns most of them "
        "at once, those that it does not, evenly over the weights, then the others, the hardest "
        "first, and else all evenly over the weights; highest, even, lowest: by weight; trial: of "
        "these three what trains best on training rows that the weights have not seen, for each "
        "keep (three training runs a keep, and one of sama, for each score run)",
    )
    folds: int = Field(
        3,
        ge=2,
        le=20,
        description="for trust=auto and order=trial one of so many parts is held out",
    )
    duplicates: float | None = Field(
        None,
        gt=0,
        le=1,
        description="rows of that cosine or more between their embeddings are near-duplicates "
        "(0.95, say): of each group one row is kept, the others only where there are too few; "
        "null: they are not looked for",
    )
    duplicate_search: Literal["exact", "faiss"] = Field(
        "exact", description="faiss (the extra faiss): for millions of rows; may miss a few pairs"
    )
    score_runs: int | None = Field(
        None,
        ge=1,
        le=100,
        description="runs, with networks of their own, that the scores are averaged over, with "
        "seeds seed, seed+1, …; default: repeats. The paper of el2n and grand averages ten",
    )
    verify: bool = Field(
        False,
        description="also retrain for the same number of epochs, and recommend the smallest subset "
        "that is shown to lose less accuracy than prune.margin, by one half of the test rows (the "
        "curve is drawn from the other); every score is measured, not the first alone",
    )
    margin: float = Field(
        0.005,
        gt=0,
        lt=1,
        description="verify: the accuracy that a recommended subset may lose: it is shown, at the "
        "95 % level over seeds and test rows, to lose less",
    )
    baselines: list[PruneBaseline] = ["full", "random"]

    @model_validator(mode="after")
    def _counts_are_whole(self) -> Prune:
        for keep in self.keep:
            if keep > 1 and keep != int(keep):
                raise ValueError(
                    f"keep {keep:g} is neither a fraction (above 0, up to 1) nor a whole "
                    "count of rows"
                )
        return self


class Checkpoint(Section):
    """When a run is saved on its way, so that --resume can go on with it; changes no result."""

    every_seconds: float | None = Field(300.0, gt=0, description="null: not by time")
    every_steps: int | None = Field(None, ge=1, description="optimiser steps of each training run")
    keep: int = Field(2, ge=1, description="of each training run, the last so many")


class Recipe(Section):
    """One experiment, whole: data, model, training, meta level, and what to do with the weights."""

    description: str = ""
    preset: Preset | None = Field(
        None,
        description="a budget by name: values for the keys that are not given beside it",
    )
    track: list[Tracker] = Field(
        [], description="trackers that are told losses and accuracies while it runs"
    )
    track_folder: PathOrName = Field(
        "runs/tracking", description="where trackers that write files (TensorBoard) write them"
    )
    task: Task = "text-classification"
    seed: int = Field(0, ge=0, description="seed of the first run")
    repeats: int = Field(1, ge=1, le=100, description="runs with seeds seed, seed+1, …")
    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    meta: Meta = Meta()
    reweight: Reweight = Reweight()
    prune: Prune = Prune()
    checkpoint: Checkpoint = Checkpoint()

    @model_validator(mode="after")
    def _early_stopping_has_data_of_its_own(self) -> Recipe:
        if not self.training.early_stopping:
            return self
        data = self.data
        if data.validation is None:
            raise ValueError(
                "training.early_stopping needs held-out clean rows: name them in data.validation, "
                "or set training.early_stopping=false"
            )
        for role in ("meta", "test"):
            if data.validation == getattr(data, role):
                raise ValueError(
                    f"data.validation and data.{role} are both '{data.validation}', and "
                    "training.early_stopping chooses by the first; name another split"
                )
        return self

    @property
    def seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.repeats))

    @property
    def score_seeds(self) -> list[int]:
        """Of the runs that pruning's scores are averaged over."""
        return list(range(self.seed, self.seed + (self.prune.score_runs or self.repeats)))
