"""Speech in recordings: what is said and when, whatever they are packed as; and what says why nothing could be heard."""

import asyncio
import shutil
import subprocess
import wave
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio

from ingest.documents import Failure
from ingest.parsers import media_types, speech
from ingest.parsers.ocr import Recognizer
from ingest.parsers.parsing import ParsedFile, parse_file
from ingest.parsers.pool import WorkerLimits, WorkerPool
from ingest.parsers.reading import MoreTime, ReadLimits
from ingest.parsers.speech import Transcriber
from ingest.texts import TextIndex
from mesh import weights
from mesh.errors import InvalidInput, Unsupported
from mesh.settings import default_models_folder
from tests.ingest.conftest import running_service

SENTENCES = (
    "The dome shutter is closed when the wind is stronger than forty kilometres per hour.",
    "Volunteers open the observatory on the first Friday of every month.",
    "The mirror is washed with distilled water twice a year.",
)
ENCODERS = {"wav": "pcm_s16le", "mp3": "libmp3lame", "flac": "flac", "ogg": "libopus", "m4a": "aac"}
READING = ReadLimits(max_text_bytes=1 << 20)
MEMORY_MIB = 1024


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sentences, said by a machine."""
    assert shutil.which("espeak-ng"), "Install espeak-ng (Debian: apt-get install espeak-ng); .ci/run does."
    path = tmp_path_factory.mktemp("speech") / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", "en-gb", "-s", "150", "-w", str(path), " ".join(SENTENCES)], check=True)
    return path


@pytest.fixture(scope="module")
def models() -> Path:
    """Where `murphey models pull whisper-base` puts it; fetched now where it is missing."""
    return weights.pull("whisper-base", default_models_folder()).parent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(models: Path, tokenizer_folder: Path) -> AsyncIterator[WorkerPool]:
    workers = WorkerPool(WorkerLimits(1, 60, MEMORY_MIB, 1000, str(tokenizer_folder), models, READING))
    yield workers
    await workers.close()


def encoded(source: Path, folder: Path, kind: str) -> Path:
    """The same sound in another container."""
    target = folder / f"said.{kind}"
    with av.open(str(source)) as read, av.open(str(target), "w", format="ipod" if kind == "m4a" else kind) as written:
        written.metadata["title"] = "Rules of the dome"
        stream: Any = written.add_stream(ENCODERS[kind], rate=48_000, layout="mono")
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=48_000, frame_size=stream.frame_size or 1024
        )
        for frame in (*read.decode(audio=0), None):
            for piece in resampler.resample(frame):
                written.mux(stream.encode(piece))
        written.mux(stream.encode(None))
    return target


async def parse(pool: WorkerPool, path: Path, folder: Path) -> tuple[ParsedFile | Failure, str, TextIndex | None]:
    text, index = folder / "text", folder / "index"
    parsed = await pool.parse(path, "meeting", text, index, folder / "members")
    if isinstance(parsed, Failure):
        return parsed, "", None
    return parsed, text.read_text(), TextIndex.from_bytes(index.read_bytes())


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", ENCODERS)
async def test_what_is_said_is_found_at_its_time(pool: WorkerPool, spoken: Path, tmp_path: Path, kind: str) -> None:
    path = encoded(spoken, tmp_path, kind)

    parsed, text, index = await parse(pool, path, tmp_path)

    assert isinstance(parsed, ParsedFile), parsed
    assert index is not None
    assert parsed.media_type in media_types.RECORDINGS
    assert parsed.found["language"] == "en"
    assert abs(float(str(parsed.found["duration_s"])) - 12.9) < 0.3
    at = [index.place(text.index(words)) for words in ("dome shutter", "first Friday", "distilled water")]
    assert [place.start_s for place in at] == sorted(place.start_s for place in at)
    assert 0 <= at[0].start_s < 1 < at[0].end_s < 7
    assert 8 < at[2].start_s < at[2].end_s < 14
    assert index.span_place(0, len(text)).end_s == at[2].end_s


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_heard_says_why(pool: WorkerPool, spoken: Path, tmp_path: Path) -> None:
    silence = tmp_path / "silence.wav"
    with wave.open(str(silence), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000 * 20))
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"ID3" + bytes(range(256)) * 40)

    assert "No speech" in getattr((await parse(pool, silence, tmp_path))[0], "message", "")
    assert "cannot be read" in getattr((await parse(pool, broken, tmp_path))[0], "message", "")
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(encoded(spoken, tmp_path, "mp3").read_bytes()[:60_000])
    assert "dome shutter" in (await parse(pool, cut, tmp_path))[1]


def test_without_the_model_it_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(range(256)) * 100)
    missing = Transcriber("whisper-base", tmp_path / "models", 3600, nullcontext)

    with pytest.raises(Unsupported, match=r"pip install 'murphey\[audio\]'.*models pull whisper-base"):
        parse_file(
            path, "a.wav", tmp_path / "t", tmp_path / "i", tmp_path / "m", Recognizer("none"), missing, READING
        )  # fmt: skip


def test_a_recording_is_given_time_and_a_longest_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "local").mkdir()
    transcriber = Transcriber(str(tmp_path / "local"), tmp_path, 600, nullcontext)

    with pytest.raises(MoreTime) as wish:
        transcriber.reserve(100)
    with pytest.raises(InvalidInput, match="longer than 10 minutes"):
        transcriber.reserve(601)

    assert wish.value.time_s > 300
    transcriber.has_time = True
    transcriber.reserve(600)


def test_a_long_recording_is_heard_in_pieces_that_end_in_a_pause() -> None:
    rate = speech.SAMPLES_PER_S
    sound = np.sin(np.arange(700 * rate, dtype=np.float32))
    for second in (290, 585):
        sound[second * rate : second * rate + rate // 2] = 0

    pieces = list(speech._windows(iter(np.array_split(sound, 999))))

    assert np.array_equal(np.concatenate(pieces), sound)
    ends = np.cumsum([len(piece) for piece in pieces])[:-1] / rate
    assert len(ends) == 2
    assert 290 <= ends[0] <= 290.5
    assert 585 <= ends[1] <= 585.5


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_chunks_of_a_recording_have_their_time(
    spoken: Path, models: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    async with running_service(tmp_path / "data", tokenizer_folder, models=models, chunk_tokens=40) as service:
        job = await service.ingest("talk.wav", await asyncio.to_thread(spoken.read_bytes))
        assert job.error.message == ""
        document = await service.document("talk.wav")
        chunks = service.retriever.found(document.name)

    assert len(chunks) > 1
    times = [(chunk.place.start_time.ToSeconds(), chunk.place.end_time.ToSeconds()) for chunk in chunks]
    assert times == sorted(times)
    assert times[0][0] == 0
    assert 11 <= times[-1][1] <= 14
    assert document.media_type == "audio/wav"
