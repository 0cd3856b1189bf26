"""The Python API: the kind of data that is given comes back; the same workflow runs beneath."""

from __future__ import annotations

import contextlib
import doctest
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch

import samacli
from samacli import api
from samacli.errors import Interrupted, SamaError
from tests.conftest import sentences

SETTINGS = {
    "training.steps": 4,
    "training.batch_size": 8,
    "training.precision": "fp32",
    "meta.batch_size": 8,
    "reweight.baselines": [],
    "prune.baselines": [],
}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    return [{"said": text, "about": label} for text, label in sentences(count, seed)]


def run(what: Any, train: Any, meta: Any, model: Path, **more: Any) -> Any:
    settings = {**SETTINGS, **more.pop("settings", {})}
    said = {"text": "said", "label": "about", "device": "cpu"}
    return what(train, meta, model=model, settings=settings, **{**said, **more})


def test_lists_and_tables_and_files_are_the_same_run(tiny_bert: Path, tmp_path: Path) -> None:
    train, clean = rows(40, 0), rows(12, 1)
    # A row without a label is dropped: positions must still be right.
    train[3]["about"] = None
    from_list = run(samacli.reweight, train, clean, tiny_bert)
    assert isinstance(from_list.dataset, list)
    assert [row["said"] for row in from_list.dataset] == [
        row["said"] for i, row in enumerate(train) if i != 3
    ]
    weights = np.array([row["sama_weight"] for row in from_list.dataset])
    assert weights.mean() == pytest.approx(1, abs=1e-4)
    assert np.allclose(from_list.scores["weight"], weights)
    assert 3 not in set(from_list.scores["index"])
    assert "sama_weight" not in train[0]  # what was given is left alone

    pandas.DataFrame(train).to_csv(tmp_path / "train.csv", index=False)
    pandas.DataFrame(clean).to_csv(tmp_path / "clean.csv", index=False)
    from_files = run(
        samacli.reweight, tmp_path / "train.csv", tmp_path / "clean.csv", tiny_bert,
        output=tmp_path / "out",
    )  # fmt: skip
    assert isinstance(from_files.dataset, datasets.Dataset)
    assert np.allclose(from_files.dataset["sama_weight"], weights)
    assert (tmp_path / "out" / "metrics.json").is_file()
    assert from_files.output == tmp_path / "out"


def test_a_dataset_comes_back_with_weights_labels_and_a_model(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    names = ["film", "money", "sport"]
    features = datasets.Features(
        {"said": datasets.Value("string"), "about": datasets.ClassLabel(names=names)}
    )
    train = datasets.Dataset.from_list(rows(40, 0)).cast(features)
    clean = datasets.Dataset.from_list(rows(12, 1)).cast(features)
    result = run(samacli.reweight, train, clean, tiny_bert, test=clean, correction=True)
    assert result.dataset.column_names == ["said", "about", "sama_weight", "sama_label"]
    assert result.dataset.features["sama_label"] == features["about"]
    assert result.dataset["said"][:] == train["said"][:]
    assert result.metrics["methods"]["sama"]["accuracy"]
    assert result.output is None
    assert not list(tmp_path.glob("sama-*"))  # nothing is left on disk
    assert "suggested_label" in result.suspects
    batch = result.processor(train["said"][:2], return_tensors="pt", padding=True)
    with torch.no_grad():
        assert result.model(**batch).logits.shape == (2, 3)
    assert [result.model.config.id2label[i] for i in range(3)] == names


def test_prune_keeps_rows_of_a_frame(tiny_bert: Path) -> None:
    frame = pandas.DataFrame(rows(40, 0), index=[f"r{i}" for i in range(40)])
    result = run(samacli.prune, frame, None, tiny_bert, keep=0.5)
    kept = result.dataset
    assert len(kept) == 20
    assert kept[["said", "about"]].equals(frame.loc[kept.index])
    score = result.scores.set_index("index")["score"]
    assert set(kept.index) == {f"r{i}" for i in result.scores["index"][result.scores["keep"]]}
    assert len(score) == 40


def test_noise_that_was_asked_for_comes_back(tiny_bert: Path) -> None:
    train = rows(40, 0)
    noise = {"data.noise.kind": "symmetric", "data.noise.rate": 0.5}
    result = run(samacli.reweight, train, rows(12, 1), tiny_bert, settings=noise)
    wrong = sum(a["about"] != b["about"] for a, b in zip(train, result.dataset, strict=True))
    assert wrong == pytest.approx(20, abs=8)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (datasets.DatasetDict(), "a DatasetDict; give a datasets.Dataset"),
        (7, "are a int"),
        ([{"said": "a", "about": 1}, {"said": ["b"], "about": 2}], "cannot be made a table"),
        ([{"text": "a", "about": 1}], "the train rows has no column 'said'"),
        ("nowhere.csv", "there is no file nowhere.csv"),
    ],
)
def test_what_is_no_data_is_refused(train: Any, said: str, tiny_bert: Path) -> None:
    with pytest.raises(samacli.SamaError) as caught:
        run(samacli.reweight, train, rows(12, 1), tiny_bert)
    assert said in str(caught.value)


def test_importing_samacli_imports_nothing_heavy() -> None:
    code = (
        "import samacli, sys; assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"reweight", "prune", "WeightedTrainer"} <= set(dir(samacli))
    with pytest.raises(AttributeError):
        samacli.nothing  # noqa: B018


# The trainer


def test_the_trainers_doctest() -> None:
    import samacli.trainer

    found = doctest.testmod(samacli.trainer)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    return samacli.WeightedTrainer(model, arguments)


def test_the_loss_is_the_weighted_mean(trainer: Any) -> None:
    ids = torch.tensor([[1, 2], [3, 4], [5, 6]])
    labels, weights = torch.tensor([0, 2, -1]), torch.tensor([0.5, 1.5, 9.0])
    inputs = {"input_ids": ids, "labels": labels, "sama_weight": weights}
    loss, outputs = trainer.compute_loss(trainer.model, inputs, return_outputs=True)
    chances = outputs.logits.softmax(-1)
    by_hand = -(0.5 * chances[0, 0].log() + 1.5 * chances[1, 2].log()) / 2
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert set(inputs) == {"input_ids", "labels", "sama_weight"}

    soft = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [0.2, 0.2, 0.6]])
    loss = trainer.compute_loss(trainer.model, {**inputs, "sama_label": soft})
    by_hand = -(weights[:, None] * soft * chances.log()).sum() / 3
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_columns_reach_the_loss(trainer: Any) -> None:
    table = datasets.Dataset.from_dict(
        {
            "input_ids": [[1, 2], [3, 4]],
            "text": ["a", "b"],
            "label": [0, 1],
            "sama_weight": [0.0, 2.0],
            "sama_label": [2, 1],
        }
    )
    trainer.train_dataset = table
    trainer.args.per_device_train_batch_size = 2
    (batch,) = trainer.get_train_dataloader()
    assert set(batch) == {"input_ids", "labels", "sama_weight", "sama_label"}
    loss = trainer.compute_loss(trainer.model, batch)
    with torch.no_grad():
        chances = trainer.model(torch.tensor([[3, 4]])).logits.softmax(-1)
    assert loss.item() == pytest.approx(-chances[0, 1].log().item(), rel=1e-5)


IDS = {"input_ids": [[1, 2], [3, 4], [5, 6], [7, 8]]}


def batch_labels(trainer: Any, rows: Any, column: str = "labels") -> list[int]:
    """The labels of the rows, in their order, as they reach the loss."""
    (batch,) = trainer.get_eval_dataloader(rows)
    return batch[column].tolist()


def test_labels_by_name_are_the_model_s_own_numbers(trainer: Any) -> None:
    trainer.model.config.id2label = {0: "pos", 1: "neg", 2: "01"}
    names = ["neg", "pos ", None, "01"]
    rows = datasets.Dataset.from_dict({**IDS, "label": names, "sama_label": ["pos", *names[1:]]})
    for given in (rows, rows.to_pandas(), rows.to_list()):
        assert batch_labels(trainer, given) == [1, 0, -100, 2]
        assert batch_labels(trainer, given, "sama_label") == [0, 0, -100, 2]
    # Numbers of named classes in another order than the model's, and numbers without names.
    declared = datasets.ClassLabel(names=["neg", "pos"])
    by_number = datasets.Dataset.from_dict({**IDS, "label": [0, 1, 1, -1]})
    assert batch_labels(trainer, by_number.cast_column("label", declared)) == [1, 0, 0, -100]
    assert batch_labels(trainer, by_number) == [0, 1, 1, -100]
    trainer.model.config.id2label = {0: "1", 1: "2", 2: "3"}
    ratings = datasets.Dataset.from_dict({**IDS, "label": [3, 1, 2, 3]})
    assert batch_labels(trainer, ratings) == [2, 0, 1, 2]
    trainer.model.config.id2label = {0: "False", 1: "True"}
    bools = datasets.Dataset.from_dict({**IDS, "label": [True, False, False, True]})
    assert batch_labels(trainer, bools) == [1, 0, 0, 1]


def test_a_label_that_is_no_class_of_the_model_is_refused(trainer: Any) -> None:
    trainer.model.config.id2label = {0: "pos", 1: "neg", 2: "so-so"}
    rows = datasets.Dataset.from_dict({**IDS, "label": ["pos", "neg", "good", "neg"]})
    with pytest.raises(SamaError, match=r"the label 'good' .* is no class of the model; .*so-so"):
        trainer.get_eval_dataloader(rows)
    trainer.model.config.id2label = {0: "1", 1: "2", 2: "3"}
    rows = datasets.Dataset.from_dict({**IDS, "label": [0, 1, 2, 0]})  # ids, or ratings?
    with pytest.raises(SamaError, match="the label '0'"):
        trainer.get_eval_dataloader(rows)


def test_a_model_without_names_takes_those_of_the_rows(trainer: Any) -> None:
    def anew(rows: Any) -> Any:
        trainer.model.config.id2label = {i: f"LABEL_{i}" for i in range(3)}
        return samacli.WeightedTrainer(trainer.model, trainer.args, train_dataset=rows)

    rows = datasets.Dataset.from_dict({**IDS, "label": ["10", "9", "2", "9"]})
    made = anew(rows)
    assert made.model.config.id2label == {0: "2", 1: "9", 2: "10"}  # as `sama` orders them
    assert batch_labels(made, rows) == [2, 1, 0, 1]
    # A class that only the corrected labels have is one too.
    corrected = rows.add_column("sama_label", ["10", "9", "9", "9"])
    assert anew(corrected).model.config.label2id == {"2": 0, "9": 1, "10": 2}
    with pytest.raises(SamaError, match=r"are 2 classes .* 3 outputs; load it with num_labels=2"):
        anew(rows.select([1, 2]))


def test_what_the_tool_hands_back_is_trained_on(tiny_bert: Path, trainer: Any) -> None:
    """Text labels, as `reweight` gives them, are trained on to the end, by their names."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    frame = pandas.DataFrame(rows(40, 0))
    result = run(samacli.reweight, frame, rows(12, 1), tiny_bert, correction=True)
    assert result.dataset["sama_label"].isin(["film", "money", "sport"]).all()
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    table = datasets.Dataset.from_pandas(result.dataset)
    table = table.map(lambda batch: tokenizer(batch["said"], truncation=True), batched=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_bert, num_labels=3, ignore_mismatched_sizes=True
    )
    trainer.args.max_steps, trainer.args.save_strategy = 3, "no"
    made = samacli.WeightedTrainer(
        model, trainer.args, train_dataset=table.rename_column("about", "label"),
        processing_class=tokenizer,
    )  # fmt: skip
    assert made.train().global_step == 3
    assert made.model.config.id2label == {0: "film", 1: "money", 2: "sport"}


def test_an_unfinished_run_is_gone_on_with(tiny_bert: Path, tmp_path: Path) -> None:
    train, clean = rows(40, 0), rows(12, 1)
    settings = {"repeats": 2, "checkpoint.every_steps": 1}
    whole = run(samacli.reweight, train, clean, tiny_bert, settings=settings)

    class Stops:
        """A progress that has enough during the second run."""

        def __init__(self) -> None:
            from samacli.progress import Silent

            self.note = self.warn = Silent().note
            self.expect = Silent().expect
            self.left = 2

        @contextlib.contextmanager
        def task(self, description: str, total: int) -> Iterator[Any]:
            if "seed 1" in description:
                raise KeyboardInterrupt
            yield self

        def advance(self, steps: int = 1) -> None:
            pass

    output = tmp_path / "out"
    with pytest.raises(Interrupted, match="--resume goes on from there"):
        run(
            samacli.reweight, train, clean, tiny_bert, settings=settings, output=output,
            progress=Stops(),
        )  # fmt: skip
    assert not output.exists()
    assert (tmp_path / "out.partial" / "run.json").is_file()
    result = run(
        samacli.reweight, train, clean, tiny_bert, settings=settings, output=output, resume=True
    )
    assert not (tmp_path / "out.partial").exists()
    np.testing.assert_array_equal(result.scores["weight"], whole.scores["weight"])
    with pytest.raises(SamaError, match="name that output"):
        run(samacli.reweight, train, clean, tiny_bert, resume=True)


def test_a_key_that_only_later_rows_have_is_no_key_less() -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y", "id": 7}]
    found = api._as_dataset(rows, "train")
    assert found.column_names == ["text", "label", "id"]
    assert list(found["id"]) == [None, 7]
