"""The suite of small models on vectors: steps, replicas, launches, and memory."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import ml_collections

from benchmarks.measure import Benchmark, repeated
from benchmarks.plain_scan import plain_scan
from benchmarks.suites import load, our_steps, our_trainer, train_to_first_step
from emergent_icl.cli import console, start
from emergent_icl.config.configs import with_options
from emergent_icl.presets import gaussian

# As in code for the dynamics of in-context learning (Singh et al. 2024, arXiv 2404.07129): vectors
# of 512 numbers, 1,600 classes, two layers of width 64 with 8 heads, rotary positions.
SMALL_MODEL = {
    "data.gaussian.num_classes": 1623,
    "data.gaussian.dimension": 512,
    "data.noise_scale": 0.0,
    "data.split.num_rare": 1600,
    "data.split.num_holdout": 23,
    "data.sequences.labeling": "ordered",
    "model.embedding_size": 64,
    "model.num_heads": 8,
    "model.positions": "rotary",
    "model.head_hidden_sizes": (),
    "training.steps_per_call": 10,
}
# Name -> pairs in the context, sequences per batch, whether layers have an MLP.
SHAPES = {
    "2_pairs_batch_32": (2, 32, False),
    "2_pairs_batch_256": (2, 256, False),
    "8_pairs_batch_32": (8, 32, False),
    "8_pairs_batch_32_mlp": (8, 32, True),
}


def small_model(shape: str, **options: Any) -> ml_collections.ConfigDict:
    """The config of one of SHAPES."""
    pairs, batch_size, has_mlp = SHAPES[shape]
    return with_options(
        gaussian.get_config("reddy"),
        {
            **SMALL_MODEL,
            "data.sequences.seq_len": pairs + 1,
            "data.sequences.shots": pairs // 2,
            "model.attention_only": not has_mlp,
            "training.batch_size": batch_size,
            **options,
        },
    )


def small_models(bench: Benchmark) -> None:
    """Small models on vectors: steps beside a hand-written scan, replicas, launch, and memory."""
    for shape in SHAPES:
        console.say(f"  {shape} ...")
        experiment = load(small_model(shape))
        trainer = our_trainer(experiment)
        bench.stack.callback(trainer.close)
        rivals = {"ours": trainer.rival("end_to_end"), "scan": plain_scan(experiment)}
        ratio = ("ours_over_scan", "scan", "ours")
        bench.compare(f"Steps, {shape}", f"{shape}_{{}}", rivals, "steps/s", ratio)
    first = next(iter(SHAPES))
    console.say("  four replicas, one on one CPU device, and spread over one per core ...")
    rivals = {
        f"{count}_replicas": our_steps(
            bench.stack,
            small_model(first, **{"training.replicas": count}),
            f"{start.CPU_DEVICES}={devices}",
        )
        for count, devices in ((1, 1), (4, start.cpu_devices(4)))
    }
    bench.compare("Steps of four replicas together", f"{first}_{{}}", rivals)
    one, four = (bench.by_name[f"{first}_{count}_replicas"].median for count in (1, 4))
    bench.record(f"{first}_4_replicas_gain", [4 * one / four], "x")
    _launches(bench, first)


def _launches(bench: Benchmark, shape: str) -> None:
    """Seconds from launch to the first step, and the peak of resident memory until then."""
    folder = Path(bench.stack.enter_context(tempfile.TemporaryDirectory()))
    config = folder / "config.json"
    config.write_text(small_model(shape).to_json_best_effort(), encoding="utf-8")
    console.say("  launches with an empty cache, and with a filled one ...")
    peaks = []

    def launch() -> None:
        flags = [f"--config={config}", f"--workdir={folder}/run_{len(peaks)}"]
        peaks.append(train_to_first_step(flags, folder / "compiled"))

    def cold() -> None:
        shutil.rmtree(folder / "compiled", ignore_errors=True)
        launch()

    rivals = {"cold": repeated(cold), "warm": repeated(launch)}
    title = f"From launch to the first step, {shape}, by compilation cache"
    bench.compare(title, f"startup_{shape}_{{}}", rivals, "s", share=0)
    if all(peaks):
        bench.record(f"memory_{shape}", peaks, "MB")
