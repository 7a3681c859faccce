"""``protosonic model evaluate``: events with truth → figures of merit, pictures and a table."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from protosonic import __version__
from protosonic.campaign.layout import Layout
from protosonic.campaign.provenance import read_campaign
from protosonic.config.model import BUNDLED
from protosonic.errors import ConfigError, DataError
from protosonic.evaluation.figures import score_figures
from protosonic.evaluation.record import Evaluation, SampleRecord, read_evaluation
from protosonic.evaluation.resampling import Resampler
from protosonic.evaluation.sample import Sample, labelled_hits
from protosonic.events.reader import ReaderOptions
from protosonic.events.truth import HitTruth
from protosonic.images.profiles import load_profile, profile_names
from protosonic.inference.cpu_backend import load_cpu_backend
from protosonic.inference.untrained import is_untrained
from protosonic.publish import publish, publish_text, sha256_of
from protosonic.stages.evaluation_sources import events_of_campaign, events_of_files
from protosonic.stages.model import check_model, model_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from protosonic.evaluation.baseline import Baseline
    from protosonic.stages.evaluation_sources import TrueEvent

__all__ = [
    "BASELINE",
    "NETWORK",
    "EvaluationOptions",
    "as_planes",
    "as_profile",
    "evaluate",
    "evaluate_and_show",
]

NETWORK = "network"
BASELINE = "baseline"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate.

    Attributes
    ----------
    sources
        The working directory of a finished campaign, or event files with truth.
    model
        ONNX file or ``bundled``; scores event files, and is not used for a campaign.
    reader
        How to read event files.
    profile, planes
        Preprocessing of event files.
    threads
        CPU threads that score.
    baseline
        Native event files with truth to train the classical baseline on; none leaves it out.
    resamples, seed
        Draws of events behind the uncertainties.
    campaign
        Name of the campaign, where the working directory holds several.
    """

    sources: tuple[Path, ...]
    model: str = BUNDLED
    reader: ReaderOptions = field(default_factory=ReaderOptions)
    profile: str = "protodune-sp-2021"
    planes: tuple[int, ...] = (0, 1, 2)
    threads: int = 1
    baseline: tuple[Path, ...] = ()
    resamples: int = 200
    seed: int = 1
    campaign: str | None = None


def as_planes(text: str) -> tuple[int, ...]:
    """Read planes from a command line, such as ``0,2``.

    Raises
    ------
    ConfigError
        The text is something else.
    """
    words = text.split(",")
    if not set(words) <= {"0", "1", "2"}:
        raise ConfigError(
            "unknown planes", where="--planes", expected="some of 0,1,2 with commas between", found=text
        )
    return tuple(sorted({int(word) for word in words}))


def as_profile(name: str) -> str:
    """Check the name of a profile from a command line.

    Raises
    ------
    ConfigError
        There is no such profile.
    """
    if name not in profile_names():
        raise ConfigError(
            "unknown profile", where="--profile", expected=f"one of {', '.join(profile_names())}", found=name
        )
    return name


def evaluate_and_show(options: EvaluationOptions, output: Path, other: Path | None) -> Path:
    """Evaluate, write ``evaluation.json`` and the pictures into a folder, and print the tables.

    Parameters
    ----------
    options
        What to evaluate.
    output
        The folder; files of these names in it are replaced.
    other
        ``evaluation.json`` of another evaluation to compare with.

    Raises
    ------
    ConfigError, DataError, ModelError, VerificationError
        As :func:`evaluate`; ``DataError`` also where the other one is not an evaluation.
    """
    from protosonic.reporting.evaluation_pictures import evaluation_pictures
    from protosonic.reporting.evaluation_tables import print_evaluation

    # Read first: a wrong file should not cost the time of the evaluation.
    compared = None if other is None else read_evaluation(other)
    found = evaluate(options)
    publish_text(output / "evaluation.json", found.model_dump_json(indent=1) + "\n")
    for name, picture in evaluation_pictures(found, compared):
        with publish(output / name) as part:
            part.write_bytes(picture)
    print_evaluation(found, compared)
    return output


def evaluate(options: EvaluationOptions) -> Evaluation:
    """Compute the figures of merit.

    Raises
    ------
    ConfigError
        Folders and files are mixed, an event file is also a training file, or scikit-learn is missing.
    DataError
        A file cannot be used or has no truth (code ``no-truth``).
    ModelError
        The model does not meet the contract.
    VerificationError
        The input files of a campaign are gone or have changed.
    """
    _check_sources(options)
    with ExitStack() as stack:
        events, description = _network_events(options, stack)
        baseline = _train_baseline(options) if options.baseline else None
        sample, scores, unknown = _collect(events, baseline)
    by_class = np.bincount(sample.label, minlength=len(HitTruth.LABELS)).tolist()
    log.info("%d hits of known class in %d events", len(sample), sample.n_events)
    resampler = Resampler(sample.n_events, options.resamples, options.seed)
    descriptions = {NETWORK: description}
    if baseline is not None:
        descriptions[BASELINE] = (
            f"gradient boosting on shape features, trained on {baseline.n_training_hits} hits of "
            + ", ".join(path.name for path in options.baseline)
        )
    return Evaluation(
        package_version=__version__,
        sample=SampleRecord(
            source=tuple(map(str, options.sources)),
            events=sample.n_events,
            hits=len(sample),
            hits_by_class=dict(zip(HitTruth.LABELS, by_class, strict=True)),
            hits_of_unknown_class=unknown,
            digest=sample.digest(),
        ),
        resamples=options.resamples,
        seed=options.seed,
        scorers={
            name: score_figures(text, sample, scores[name], resampler) for name, text in descriptions.items()
        },
    )


def _check_sources(options: EvaluationOptions) -> None:
    folders = [source for source in options.sources if source.is_dir()]
    if folders and len(options.sources) > 1:
        raise ConfigError(
            "a campaign is evaluated alone",
            file=folders[0],
            hint="Give one working directory, or event files only",
        )
    both = {path.resolve() for path in options.sources} & {path.resolve() for path in options.baseline}
    if both:
        raise ConfigError(
            "the baseline must not be trained on what it is evaluated on",
            file=min(both),
            where="--baseline",
            hint="Simulate other events with another seed",
        )


def _network_events(options: EvaluationOptions, stack: ExitStack) -> tuple[Iterator[TrueEvent], str]:
    """Give the scored events, and what scored them."""
    if options.sources[0].is_dir():
        layout = Layout.of_workdir(options.sources[0], options.campaign)
        model = read_campaign(layout)["provenance"]["model"]
        _warn(untrained=model["untrained"])
        text = f"campaign {layout.name}: model {model['path']}, sha256 {model['sha256'][:16]}"
        return events_of_campaign(layout), text
    file = model_file(options.model)
    check_model(file)
    _warn(untrained=is_untrained(file))
    profile = load_profile(options.profile)
    backend = load_cpu_backend(file, options.threads, background=profile.zero_level)
    stack.callback(backend.close)
    text = f"model {options.model}, sha256 {sha256_of(file)[:16]}, profile {options.profile}"
    return events_of_files(options.sources, options.reader, profile, options.planes, backend), text


def _warn(*, untrained: bool) -> None:
    from protosonic.reporting.terminal import UNTRAINED_WARNING

    if untrained:
        log.warning(UNTRAINED_WARNING)


def _train_baseline(options: EvaluationOptions) -> Baseline:
    from protosonic.evaluation.baseline import Baseline
    from protosonic.evaluation.features import hit_features

    features, labels = [], []
    profile = load_profile(options.profile)
    for event in events_of_files(options.baseline, ReaderOptions(), profile, options.planes, None):
        features.append(hit_features(event.hits))
        labels.append(event.truth.label)
    return Baseline(np.concatenate(features), np.concatenate(labels), options.seed, options.threads)


def _collect(
    events: Iterable[TrueEvent], baseline: Baseline | None
) -> tuple[Sample, dict[str, NDArray[np.float32]], int]:
    """Gather the hits of known class with the scores of each scorer, and count the others."""
    from protosonic.evaluation.features import hit_features

    samples: list[Sample] = []
    scores: dict[str, list[NDArray[np.float32]]] = {NETWORK: [], BASELINE: []}
    unknown = 0
    for number, event in enumerate(events):
        sample, known = labelled_hits(number, event.hits, event.truth, event.particles)
        samples.append(sample)
        unknown += int((~known).sum())
        assert event.scores is not None
        scores[NETWORK].append(event.scores[known])
        if baseline is not None:
            scores[BASELINE].append(baseline.score(hit_features(event.hits))[known])
        log.info("%s: %d hits of known class", event.id, len(sample))
    if not sum(map(len, samples)):
        raise DataError("there are no hits of known class", code="no-truth")
    return (
        Sample.concatenate(samples),
        {name: np.concatenate(parts) for name, parts in scores.items() if parts},
        unknown,
    )
