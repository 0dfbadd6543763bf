"""Text in images, by Tesseract: kreuzberg carries the program, the machine must have the data of the languages.

Chosen by measurement over rapidocr on eight pages: a quarter of its CPU time (2.7 s against 9.4 s a page), a third of its
memory (0.4 GB against 1.2 GB), more of the words (0.94 against 0.91), and no further packages.
"""

import os
from pathlib import Path

from kreuzberg import ExtractionConfig, KreuzbergError, OcrConfig, TesseractConfig, extract_bytes_sync

from ingest.documents import Metadata
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import MoreTime, Source
from mesh.errors import InvalidInput, Unsupported

PAGE_S = 20.0
"""A scanned page takes two to four seconds on one core."""
MIN_PAGES = 10
"""An archive of scans does not say beforehand how many there are."""
_FOLDERS = (
    "/usr/share/tesseract-ocr",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
)


class Recognizer:
    """Recognises text of the given languages, as Tesseract names them, such as `eng+deu`."""

    def __init__(self, languages: str) -> None:
        self.languages = languages
        self._folder = find_data(languages)
        self.has_time = False

    def reserve(self, pages: int) -> None:
        """Asks for the time that recognition takes. Unsupported where it is not set up."""
        if self._folder is None:
            raise Unsupported(
                f"Its pages are images, and text recognition (OCR) is off: install Tesseract's data for {self.languages} "
                "(Debian: apt-get install tesseract-ocr) or set TESSDATA_PREFIX, and start ingest again."
            )
        if not self.has_time:
            raise MoreTime(max(MIN_PAGES, pages) * PAGE_S)
        os.environ["TESSDATA_PREFIX"] = str(self._folder)

    def __call__(self, image: bytes, media_type: str) -> str:
        """The text of an image, empty where there is none."""
        self.reserve(1)
        # Tesseract has a cache of its own beside the extraction's: text in the user's home that no deletion would reach.
        tesseract = TesseractConfig(language=self.languages, use_cache=False)
        ocr = OcrConfig(backend="tesseract", language=self.languages, tesseract_config=tesseract)
        config = ExtractionConfig(use_cache=False, enable_quality_processing=False, ocr=ocr, output_format="plain")
        try:
            return extract_bytes_sync(image, media_type, config=config).content.strip()
        except KreuzbergError as error:
            raise InvalidInput(f"The content is {media_type}, but it cannot be read; it may be damaged.") from error


def find_data(languages: str) -> Path | None:
    """The folder that has the data of all these languages."""
    folders = [Path(folder) for folder in (os.environ.get("TESSDATA_PREFIX"), *_FOLDERS) if folder]
    candidates = [place for folder in folders for place in (folder, folder / "tessdata", *folder.glob("*/tessdata"))]
    names = [f"{language}.traineddata" for language in languages.split("+")]
    return next((place for place in candidates if all((place / name).is_file() for name in names)), None)


def read_image(source: Source, output: TextOutput) -> Metadata:
    """An image as a document of its own."""
    text = source.ocr(source.data(), source.media_type)
    if not text:
        raise InvalidInput("No text was recognised in the image.")
    output.write(text + "\n")
    return {}
