"""The synthetic corpus: spoken by espeak-ng, moved by lip targets, recorded badly on purpose."""

from .build import CorpusReport, build_corpus
from .reading import Corpus

__all__ = ["Corpus", "CorpusReport", "build_corpus"]
