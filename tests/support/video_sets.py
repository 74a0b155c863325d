"""Tiny videos on disk, laid out as the authors of data sets lay out theirs."""

from __future__ import annotations

import csv
import gc
import json
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = f"local-dir:{EXAMPLES / 'small_clip' / 'emoji-vit-12x128'}"
COLOURS = [(220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 40), (200, 40, 200), (40, 200, 200), (240, 140, 20)]


def write_video(path: Path, colour: tuple[int, int, int], frames: int = 5, size: tuple[int, int] = (80, 64)) -> Path:
    """A bar of a colour that moves over grey: every frame is another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", 1_000_000
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), 128, np.uint8)
            left = number * size[0] // (frames + 2)
            picture[:, left : left + size[0] // 3] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def damage(path: Path) -> None:
    """Leaves what an interrupted download does."""
    path.write_bytes(path.read_bytes()[:300])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def ucf101(root: Path) -> tuple[Path, Path]:
    """Three classes; groups 8 and 9 train with 2 videos each, group 1 tests with 1."""
    classes = ["ApplyEyeMakeup", "YoYo", "Archery"]
    write_lines(root / "lists" / "classInd.txt", [f"{n} {name}" for n, name in enumerate(classes, 1)])
    train, test = [], []
    for number, name in enumerate(classes):
        for group, clip in (("08", 1), ("08", 2), ("09", 1), ("09", 2), ("01", 1)):
            file = f"{name}/v_{name}_g{group}_c{clip:02}.avi"
            write_video(root / "UCF-101" / file, COLOURS[number])
            if group == "01":
                test.append(file)
            else:
                train.append(f"{file} {number + 1}")
    for split in (1, 2, 3):
        write_lines(root / "lists" / f"trainlist0{split}.txt", train)
        write_lines(root / "lists" / f"testlist0{split}.txt", test)
    return root / "UCF-101", root / "lists"


def hmdb51(root: Path) -> tuple[Path, Path]:
    """Four classes; the first has 3 videos for training, the others 2; each has 1 for tests and 1 for neither."""
    for number, name in enumerate(["wave", "brush_hair", "climb", "dive"]):
        lines = []
        for clip in range(5 if number == 0 else 4):
            file = f"April_0{clip}_{name}_u_nm_np1_ba_goo_{clip}.avi"
            write_video(root / "hmdb51" / name / file, COLOURS[number])
            lines.append(f"{file} {2 if clip == 0 else 0 if clip == 1 else 1} ")
        for split in (1, 2, 3):
            write_lines(root / "splits" / f"{name}_test_split{split}.txt", lines)
    return root / "hmdb51", root / "splits"


def ssv2(root: Path) -> tuple[Path, Path]:
    """Two classes whose numbers are not in the order of their names."""
    labels = {"Holding something": "1", "Pushing something from left to right": "0"}
    templates = {"Holding [something]": 1, "Pushing [something] from left to right": 0}
    rows: dict[str, list[dict[str, object]]] = {"train": [], "validation": []}
    for template, number in templates.items():
        for clip, split in enumerate(["train", "train", "validation"]):
            identity = str(100 * number + clip)
            write_video(root / "videos" / f"{identity}.webm", COLOURS[number])
            placeholders = ["a potato"]
            label = template.lower().replace("[something]", "a potato")
            rows[split].append({"id": identity, "label": label, "template": template, "placeholders": placeholders})
    (root / "labels").mkdir()
    (root / "labels" / "something-something-v2-labels.json").write_text(json.dumps(labels))
    for split, videos in rows.items():
        (root / "labels" / f"something-something-v2-{split}.json").write_text(json.dumps(videos))
    return root / "videos", root / "labels"


def kinetics(root: Path) -> tuple[Path, Path]:
    """Two classes; one video is in no folder any more."""
    for split, clips in (("train", 3), ("validate", 1)):
        rows = []
        for number, name in enumerate(["air drumming", "playing TV games"]):
            for clip in range(clips):
                video = f"{split[0]}{number}_-{clip}{'x' * 6}"
                rows.append((name, video, 10 * clip, 10 * clip + 10, split))
                if (split, number, clip) != ("train", 1, 2):
                    file = f"{video}_{10 * clip:06}_{10 * clip + 10:06}.mp4"
                    write_video(root / "k400" / split / name / file, COLOURS[number])
        header = ["label", "youtube_id", "time_start", "time_end", "split"]
        write_csv(root / "annotations" / f"{split}.csv", header, rows)
    return root / "k400", root / "annotations"


def folders(root: Path, classes: int = 2, train: int = 2, test: int = 2) -> Path:
    """`train/CLASS/`, `val/CLASS/`, and files that are not videos."""
    for split, count in (("train", train), ("val", test)):
        for number in range(classes):
            for clip in range(count):
                write_video(root / split / f"action_{number}" / f"{clip}.mp4", COLOURS[number], frames=4 + clip)
    write_lines(root / "train" / "action_0" / "notes.txt", ["not a video"])
    return root


def captioned_files(root: Path, names: Iterable[str]) -> Path:
    for number, name in enumerate(names):
        write_video(root / "videos" / name, COLOURS[number % len(COLOURS)], frames=3 + number % 3)
    return root / "videos"


def msrvtt(root: Path) -> tuple[Path, Path]:
    """Four videos train with 2 captions each, three test with 1; one belongs to neither."""
    videos = captioned_files(root, [f"video{n}.mp4" for n in range(8)])
    sentences = [
        {"video_id": f"video{n}", "caption": f"caption {k} of {n}", "sen_id": n} for n in range(8) for k in (0, 1)
    ]
    (root / "annotations").mkdir()
    (root / "annotations" / "MSRVTT_data.json").write_text(json.dumps({"videos": [], "sentences": sentences}))
    write_csv(root / "annotations" / "MSRVTT_train.9k.csv", ["video_id"], [[f"video{n}"] for n in range(4)])
    rows = [[f"ret{n}", f"msr{n}", f"video{n}", f"test caption of {n}"] for n in (4, 5, 6)]
    write_csv(root / "annotations" / "MSRVTT_JSFUSION_test.csv", ["key", "vid_key", "video_id", "sentence"], rows)
    return videos, root / "annotations"


def msvd(root: Path) -> tuple[Path, Path]:
    """Two videos train, two test, with 2 English captions each, and one in German."""
    names = [f"-id{n}_{n}_{n + 5}" for n in range(4)]
    videos = captioned_files(root, [f"{name}.avi" for name in names])
    header = ["VideoID", "Start", "End", "WorkerID", "Source", "AnnotationTime", "Language", "Description"]
    captions = [("English", "a man runs"), ("German", "ein Mann rennt"), ("English", 'he says "hi", then runs')]
    rows = [
        [f"-id{n}", n, n + 5, 1, "clean", 9, language, f"{n} {text}"] for n in range(4) for language, text in captions
    ]
    write_csv(root / "annotations" / "video_corpus.csv", header, rows)
    write_lines(root / "annotations" / "train_list.txt", names[:2])
    write_lines(root / "annotations" / "test_list.txt", names[2:])
    return videos, root / "annotations"


def lsmdc(root: Path) -> tuple[Path, Path]:
    """Two films with 2 clips each: one trains, one tests."""
    clips = [f"10{film}_MOVIE_00.0{n}.00.000-00.0{n}.05.000" for film in (0, 1) for n in (1, 2)]
    videos = captioned_files(root, [f"{clip.rpartition('_')[0]}/{clip}.avi" for clip in clips])
    lines = [f"{clip}\t00.01\t00.02\t00.01\t00.02\tSOMEONE opens door {n}." for n, clip in enumerate(clips)]
    write_lines(root / "annotations" / "LSMDC16_annos_training.csv", lines[:2])
    write_lines(root / "annotations" / "LSMDC16_challenge_1000_publictect.csv", lines[2:])
    return videos, root / "annotations"


def didemo(root: Path) -> tuple[Path, Path]:
    """Two videos train, two test, with 2 moments each; one was converted to MP4."""
    names = [f"12@N0{n}_34_ab.mov" for n in range(4)]
    videos = captioned_files(root, [*names[:3], f"{names[3][:-4]}.mp4"])
    for split, own in (("train", names[:2]), ("test", names[2:])):
        moments = [{"video": name, "description": f"moment {k} of {name[:6]}"} for name in own for k in (0, 1)]
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}_data.json").write_text(json.dumps(moments))
    return videos, root / "annotations"


def write_sound(path: Path, cover: bool = False) -> None:
    """A piece of music, perhaps with a picture for its cover."""
    with av.open(path, "w") as container:
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic.value  # PyAV 17 takes the number alone
        music = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        if cover:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9, np.uint8), format="rgb24")
            container.mux([*picture.encode(frame.reformat(format="yuvj420p")), *picture.encode()])
        container.mux([*music.encode(sound), *music.encode()])
    # A writing container and its streams refer to each other. Collected in a forked worker, they would wait for ever
    # for threads of the resampler that the fork has left behind.
    del container, music
    gc.collect()
