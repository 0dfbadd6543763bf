"""Speech to text by Whisper (Radford et al. 2022, arXiv:2212.04356), through faster-whisper, a few minutes at a time.

An extra of the installation: where the library or the model is missing, a recording is refused with what to install. A
text line is a segment as Whisper cuts them, and knows the seconds at which it begins and ends.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.documents import Metadata
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import MoreTime, Source
from ingest.places import Place
from mesh.errors import FailedPrecondition, InvalidInput, Unsupported
from mesh.weights import resolve

SAMPLES_PER_S = 16_000
WINDOW_S = 300
"""Whisper itself hears half a minute at a time; what it is given at once only bounds memory."""
PAUSE_WITHIN_S = 20
"""A window ends at the quietest moment of its last seconds, so that no word is cut."""
PAUSE_S = 0.1
TIME_PER_S, LOADING_S = 3.0, 60.0
"""A second of speech took 0.1 to 0.2 s on one core, and 1.1 s where it repeated itself and Whisper tried again and again."""
MAX_FOUND_CHARACTERS = 500

Samples = npt.NDArray[np.float32]


class Transcriber:
    """Whisper, loaded for one recording; a process that has `heard` one is best ended, for it does not give all memory back.

    `lifted` suspends the limit of memory while the model is loaded.
    """

    def __init__(
        self, model: str, models: Path, max_recording_s: float, lifted: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.max_recording_s = max_recording_s
        self.has_time = False
        self.heard = False
        self._model = model
        self._models = models
        self._lifted = lifted

    def reserve(self, duration_s: float) -> None:
        """Asks for the time that so much speech takes. Unsupported where the library or the model is missing."""
        self._check_installed()
        self.check_duration(duration_s)
        if not self.has_time:
            raise MoreTime(LOADING_S + duration_s * TIME_PER_S)

    def check_duration(self, duration_s: float) -> None:
        """InvalidInput for a recording that is too long."""
        if duration_s > self.max_recording_s:
            raise InvalidInput(
                f"The recording is longer than {self.max_recording_s / 60:.0f} minutes; split it, or raise "
                "max_recording_minutes of ingest."
            )

    def load(self) -> "Hearing":
        """Ready to hear one recording."""
        from faster_whisper import WhisperModel  # only here: few need it, and loading it takes time

        self.heard = True
        with self._lifted():
            threads = max(1, (os.cpu_count() or 1) // 2)
            model = WhisperModel(
                str(resolve(self._model, self._models)), device="cpu", compute_type="int8", cpu_threads=threads
            )
        return Hearing(model)

    def _check_installed(self) -> None:
        try:
            import faster_whisper  # pyright: ignore[reportUnusedImport] # noqa: F401

            resolve(self._model, self._models)
        except (ImportError, FailedPrecondition) as error:
            raise Unsupported(
                "This is a recording, and speech recognition is not set up: run `pip install 'murphey[audio]'` and "
                f"`murphey models pull {self._model}`, and start ingest again."
            ) from error


class Hearing:
    """One recording on its way through the model. The language is that of its beginning."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.language: str | None = None

    def segments(self, samples: Samples) -> Iterator[tuple[float, float, str]]:
        """What is said: begin and end in seconds from the first sample, and the words. Silence is left out."""
        found, info = self._model.transcribe(
            samples, language=self.language, beam_size=1, vad_filter=True, condition_on_previous_text=False
        )
        for segment in found:
            self.language = info.language
            if text := segment.text.strip():
                yield segment.start, segment.end, text


def read(source: Source, output: TextOutput) -> Metadata:
    """A recording, or the sound of a film: a line for each segment."""
    duration_s, found = _probe(source)
    source.speech.reserve(duration_s)
    begin_s = 0.0
    hearing = source.speech.load()
    for samples in _windows(_samples(source)):
        for start_s, end_s, text in hearing.segments(samples):
            output.begin(Place(start_s=round(begin_s + start_s, 2), end_s=round(begin_s + end_s, 2)))
            output.write(f"{text}\n")
        begin_s += len(samples) / SAMPLES_PER_S
        source.speech.check_duration(begin_s)
    if not output.content:
        raise InvalidInput("No speech was recognised in the recording.")
    return {**found, "language": hearing.language or "", "duration_s": round(begin_s, 2)}


def _probe(source: Source) -> tuple[float, Metadata]:
    """Seconds, as far as the file says; and title and authors. InvalidInput for what cannot be read or has no sound."""
    with _opened(source) as container:
        tags = {str(key).lower(): str(value)[:MAX_FOUND_CHARACTERS] for key, value in container.metadata.items()}
        found: Metadata = {}
        if tags.get("title"):
            found["title"] = tags["title"]
        if tags.get("artist"):
            found["authors"] = [tags["artist"]]
        return (container.duration or 0) / 1e6, found


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        source.speech.reserve(0)  # says what to install
        raise
    try:
        with av.open(str(source.path), metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise InvalidInput(f"The content is {source.media_type}, and it has no sound.")
            yield container
    except FFmpegError as error:
        message = f"The content is {source.media_type}, but it cannot be read; it may be damaged or cut off."
        raise InvalidInput(f"{message} The decoder says: {error.strerror}") from error


def _samples(source: Source) -> Iterator[Samples]:
    """The sound in one channel at SAMPLES_PER_S, as it is decoded. What a cut-off file lacks at its end is left out."""
    with _opened(source) as container:
        import av
        from av.error import InvalidDataError

        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLES_PER_S)
        for frame in _frames(container, InvalidDataError):
            frame.pts = None  # gaps in a stream's own clock would become errors
            yield from map(_normalised, resampler.resample(frame))
        yield from map(_normalised, resampler.resample(None))


def _frames(container: Any, damaged: type[Exception]) -> Iterator[Any]:
    for packet in container.demux(audio=0):
        try:
            yield from packet.decode()
        except damaged:
            continue


def _normalised(frame: Any) -> Samples:
    return frame.to_ndarray().reshape(-1).astype(np.float32) / 32768.0


def _windows(pieces: Iterator[Samples]) -> Iterator[Samples]:
    """The same samples, WINDOW_S at most at a time."""
    kept: list[Samples] = []
    length = 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        while length > WINDOW_S * SAMPLES_PER_S:
            whole = np.concatenate(kept)
            end = _pause(whole[: WINDOW_S * SAMPLES_PER_S])
            yield whole[:end]
            kept, length = [whole[end:]], length - end
    if length:
        yield np.concatenate(kept)


def _pause(samples: Samples) -> int:
    """The middle of the quietest moment near the end."""
    step = int(PAUSE_S * SAMPLES_PER_S)
    tail = samples[-PAUSE_WITHIN_S * SAMPLES_PER_S :]
    loudness = np.square(tail[: len(tail) // step * step].reshape(-1, step)).sum(axis=1)
    return len(samples) - len(tail) + int(loudness.argmin()) * step + step // 2
