"""`mnv2 batch` and its callable: every image is a row, once, of the same bits however often it is stopped."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
import torch
from cli_cases import CLASSES, SIZE, refusal, save_photo, save_weights, table_of
from PIL import Image

from mnv2_kernels.batch import Classifier
from mnv2_kernels.cli.app import main
from mnv2_kernels.weights.photos import decode_photo, load_photo, photo_bytes
from mnv2_kernels.weights.sources import load_network

Capture = pytest.CaptureFixture[str]

DEADLINE_S = 240
# What a worker has begun when its job is killed may still become a file.
SETTLED_S = 3


def encoded(folder: Path, *names: str) -> list[bytes]:
    return [save_photo(folder, name).read_bytes() for name in names]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return str(save_weights(tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten photographs, also further below, and a file that is none."""
    folder = tmp_path / "images"
    (folder / "below" / ".hidden").mkdir(parents=True)
    for index in range(10):
        save_photo(folder / "below" if index % 3 else folder, f"{'p' * (index + 1)}.png")
    save_photo(folder / "below" / ".hidden", "hidden.png")
    (folder / "damaged.jpg").write_bytes(b"no image")
    return folder


# --- the callable ---


@pytest.mark.parametrize("images", [1, 2, 32])
def test_classes_are_the_network_s(images: int, weights: str, tmp_path: Path) -> None:
    paths = [save_photo(tmp_path, name) for name in ("a.png", "ab.png", "abc.png")]
    found = Classifier(weights, size=SIZE, images=images)([path.read_bytes() for path in paths])
    network = load_network(weights)
    with torch.inference_mode():
        logits = torch.cat([network.model(load_photo(path, SIZE, "torchvision")[None]) for path in paths])
    expected = logits.softmax(1).topk(5)
    assert found["top_class"].tolist() == expected.indices.tolist()
    assert found["top_probability"].tolist() == expected.values.tolist()
    assert found["class"].tolist() == expected.indices[:, 0].tolist()
    assert found["label"].tolist() == [f"class {index}" for index in found["class"]]
    assert found["top_label"].shape == (3, 5)
    assert found["error"].tolist() == [""] * 3


def test_what_is_no_image_is_an_error_in_its_row(weights: str, tmp_path: Path) -> None:
    classifier = Classifier(weights, size=SIZE)
    good = encoded(tmp_path, "a.png", "ab.png")
    others = [b"", b"junk", good[0][:100], numpy.zeros((4, 4), numpy.uint8), None]
    found = classifier([good[0], *others, good[1]])
    assert found["class"][1:-1].tolist() == [-1] * len(others)
    assert found["label"][1:-1].tolist() == [""] * len(others)
    assert numpy.isnan(found["top_probability"][1:-1]).all()
    assert all(found["error"][1:-1])
    assert found["error"][2] == "not an image that Pillow can read"
    alone = classifier(good)
    assert all((found[name][[0, -1]] == alone[name]).all() for name in alone)
    assert classifier(others)["top_class"].shape == (len(others), 5)
    assert classifier([])["class"].shape == (0,)


def test_pixels_and_files_of_them_give_the_same(weights: str, tmp_path: Path) -> None:
    classifier = Classifier(weights, size=SIZE)
    files = encoded(tmp_path, "a.png", "ab.png")
    pixels = numpy.stack([numpy.asarray(Image.open(io.BytesIO(file))) for file in files])
    one, other = classifier(numpy.array(files, dtype=object)), classifier(pixels)
    assert all((one[name] == other[name]).all() for name in one)
    assert classifier.decoding_s > 0 < classifier.computing_s
    copied = pickle.loads(pickle.dumps(classifier))(pixels)
    assert all((one[name] == copied[name]).all() for name in one)


def test_a_model_of_another_library(tmp_path: Path) -> None:
    source = tmp_path / "home_made_batch.py"
    source.write_text(
        "from torch import nn\nfrom mnv2_kernels.bench.zoo import FlatBlock\n"
        "def make(): return nn.Sequential(FlatBlock(3, 8, 2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "def image(): return nn.Sequential(FlatBlock(3, 8, 2, 4))\n"
    )
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join("abcdefgh"))
    found = Classifier(model=f"{source}:make", labels=str(labels), size=SIZE)(encoded(tmp_path, "a.png"))
    assert found["label"][0] == "abcdefgh"[found["class"][0]]
    with pytest.raises(ValueError, match="its result is no logits"):
        Classifier(model=f"{source}:image", size=SIZE)


@pytest.mark.parametrize(("least", "size"), [(None, (1600, 1200)), (600, (800, 600)), (601, (1600, 1200))])
def test_large_jpegs_are_scaled_while_they_are_decoded(least: int | None, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    image = Image.new("RGB", (1600, 1200), (10, 200, 30))
    image.save(file, "JPEG")
    decoded = decode_photo(file, least)
    assert (decoded.size, decoded.mode) == (size, "RGB")
    assert abs(numpy.asarray(decoded).astype(int) - (10, 200, 30)).max() < 5


def test_scaled_decoding_hardly_moves_a_pixel(weights: str, tmp_path: Path) -> None:
    photo, file = Image.open(save_photo(tmp_path)), io.BytesIO()
    photo.resize((1000, 600), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    classifier = Classifier(weights, size=SIZE)
    scaled = classifier.decoded(file.getvalue())
    assert scaled.size == (250, 150)
    one, other = (photo_bytes(image, SIZE, "torchvision") for image in (scaled, decode_photo(file)))
    assert (one.float() - other.float()).abs().mean() < 1


# --- inputs ---


def test_what_an_input_may_be(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    from mnv2_kernels.batch.inputs import partitions

    every = sorted(str(path) for path in folder.rglob("*") if path.is_file() and ".hidden" not in path.parts)
    assert len(every) == 11
    found = partitions(str(folder), 4, "image")
    assert [each.number for each in found] == [0, 1, 2]
    assert [path for each in found for path in each.paths] == every
    for pattern, count in (("*.png", 4), ("**/*.png", 10), ("be?ow/*.png", 6), ("**/[q-z]*", 0)):
        if count:
            (one,) = partitions(f"{folder}/{pattern}", 100, "image")
            assert len(one.paths) == count, pattern
    listed = tmp_path / "list.txt"
    listed.write_text(f"{every[3]}\n\nabsent.png\n{every[0]}\n")
    (one,) = partitions(str(listed), 100, "image")
    assert list(one.paths) == [every[3], "absent.png", every[0]]
    _, images = next(one.batches(10))
    assert isinstance(images[1], OSError)
    assert images[0] == Path(every[3]).read_bytes()
    assert [*partitions(every[0], 5, "image")[0].paths] == [every[0]]
    monkeypatch.chdir(folder.parent)
    (one,) = partitions(folder.as_uri(), 100, "image")
    assert next(one.batches(1))[1] == [Path(every[0]).read_bytes()]


@pytest.mark.parametrize("is_struct", [False, True])
def test_parquet_is_read_by_row_groups(is_struct: bool, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from mnv2_kernels.batch.inputs import partitions

    values = encoded(tmp_path, "a.png", "ab.png", "abc.png")
    column = [{"bytes": value, "path": None} for value in values] if is_struct else values
    path = tmp_path / "images.parquet"
    parquet.write_table(pyarrow.table({"image": column, "more": [1, 2, 3]}), path, row_group_size=2)
    first, second = partitions(str(path), 100, "image")
    batches = [*first.batches(1), *second.batches(1)]
    assert [image for _, images in batches for image in images] == values
    assert [name for names, _ in batches for name in names] == [
        f"{path}#{place}" for place in ("0.0", "0.1", "1.0")
    ]
    with pytest.raises(ValueError, match="no column pixels, but image, more"):
        partitions(str(path), 100, "pixels")
    with pytest.raises(ValueError, match="column more holds no bytes, but int64"):
        partitions(str(path), 100, "more")


# --- the command ---


def rows_of(output: Path) -> list[dict]:
    from pyarrow import parquet

    files = sorted(output.glob("part-*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def cluster():
    """Two workers of this process's own, for all tests that need no process of theirs."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'mnv2-kernels[ray]'")
    from mnv2_kernels.batch.run import ENVIRONMENT

    os.environ.update(ENVIRONMENT)  # before Ray's core is loaded
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_every_file_is_a_row(folder: Path, weights: str, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "rows"
    command = ["batch", str(folder), str(output), "--weights", weights, "--size", str(SIZE)]
    command += ["--partition", "4", "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["errors"], result["partitions"]) == (11, 1, 3)
    assert result["found_partitions"] == 0
    assert 1 <= result["workers"] <= 2
    assert 0 < result["decoding_share"] < 1
    working_s = sum(result[name] for name in ("reading_s", "decoding_s", "computing_s"))
    assert result["images_per_s"] == pytest.approx(11 * result["workers"] / working_s)
    assert working_s < result["workers"] * result["seconds"]
    rows = rows_of(output)
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    failed = [row for row in rows if row["error"]]
    assert [Path(row["path"]).name for row in failed] == ["damaged.jpg"]
    assert failed[0]["class"] is failed[0]["label"] is failed[0]["top"] is None
    classifier = Classifier(weights, size=SIZE)
    for row in (row for row in rows if not row["error"]):
        found = classifier([Path(row["path"]).read_bytes()])
        assert (row["class"], row["label"]) == (found["class"][0], found["label"][0])
        assert [each["probability"] for each in row["top"]] == found["top_probability"][0].tolist()
        assert [each["class"] for each in row["top"]] == found["top_class"][0].tolist()
    # A second time there is nothing to do, and another job is refused.
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["images"], again["images_per_s"], again["found_partitions"]) == (0, 0, 3)
    assert any("nothing was left to do" in line for line in table_of(capsys, *command[:-1]))
    assert "it has rows of another job" in refusal(capsys, [*command, "--preprocess", "tf"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    assert "not empty, and without a job.json" in refusal(capsys, [*command[:2], other, *command[3:]])


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_the_callable_runs_in_ray_unchanged(weights: str, tmp_path: Path) -> None:
    from ray import data

    classifier, files = Classifier(weights, size=SIZE), encoded(tmp_path, "a.png", "ab.png")
    rows = data.from_items([{"index": index, "bytes": file} for index, file in enumerate(files)])
    found = rows.map_batches(lambda batch: {"index": batch["index"], **classifier(batch["bytes"])}).take_all()
    expected = classifier(files)
    for row in found:
        assert row["label"] == expected["label"][row["index"]]
        assert (row["top_probability"] == expected["top_probability"][row["index"]]).all()
        assert [*row["top_label"]] == [*expected["top_label"][row["index"]]]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_killed_job_goes_on(folder: Path, weights: str, tmp_path: Path, capsys: Capture) -> None:
    for index in range(40):
        save_photo(folder, f"{'q' * (index + 11)}.png")
    output = tmp_path / "rows"
    command = ["batch", str(folder), str(output), "--weights", weights, "--size", str(SIZE), "--json"]
    command += ["--partition", "1", "--workers", "1"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "mnv2_kernels", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parent.parent,
    )
    deadline = time.monotonic() + DEADLINE_S
    while not list(output.glob("part-*.parquet")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    time.sleep(SETTLED_S)
    kept = {path: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert 0 < len(kept) < 51
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["found_partitions"], result["partitions"]) == (len(kept), 51)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    rows = rows_of(output)
    assert len({row["path"] for row in rows}) == len(rows) == 51
    classifier = Classifier(weights, size=SIZE)
    for row in (row for row in rows if not row["error"]):
        found = classifier([Path(row["path"]).read_bytes()])
        assert [each["probability"] for each in row["top"]] == found["top_probability"][0].tolist()


def test_refusals(folder: Path, weights: str, tmp_path: Path, capsys: Capture, monkeypatch) -> None:
    command = ["batch", folder, tmp_path / "rows", "--weights", weights]
    monkeypatch.setattr("mnv2_kernels.cli.batch.NEEDED", ("no_such_module",))
    assert "mnv2 batch needs no_such_module: pip install 'mnv2-kernels[ray]'" in refusal(capsys, command)
    monkeypatch.undo()
    pytest.importorskip("ray")
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, words in (
        (tmp_path / "absent", "absent: no such file or folder"),
        (empty, "empty: no files there"),
        (f"{folder}/*.gif", "*.gif: no files there"),
        ("nothing://bucket/images", "nothing://bucket/images: "),
    ):
        assert words in refusal(capsys, ["batch", source, *command[2:]])
    assert "absent.pth: no such weights file" in refusal(capsys, [*command[:-1], "absent.pth"])
    labels = tmp_path / "labels.txt"
    labels.write_text("one")
    message = refusal(capsys, [*command, "--labels", labels])
    assert f"1 labels, but the network has {CLASSES} classes" in message
    assert not (tmp_path / "rows").exists()
