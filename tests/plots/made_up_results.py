"""Fictitious content of results.json, with every irregularity."""

import math

import numpy as np

SEEDS = [0, 1, 2, 3, 4]
CONSTANTS = (0.01, 0.015, 0.1, 0.385, 0.608)
CHANCE = {"icl": 0.5, "iwl": 0.0007}
BASE = {
    "data.source": "omniglot",
    "data.image_size": 28,
    "data.sequences.p_bursty": 0.9,
    "model.sequence_model": "transformer",
    "training.batch_size": 32,
    "training.num_steps": 50_000,
    "training.learning_rate": 0.0003,
}


def make_results():
    """All seven findings: one is uncertain, one has no runs, one has missing and diverged runs."""
    sweeps = {
        "burstiness": burstiness(),
        "classes": classes(),
        "multiplicity": multiplicity(),
        "variation": variation(),
        "zipf": zipf(),
        "architecture": architecture(),
        "transience": transience(),
    }
    verdicts = {name: verdict(name, sweep) for name, sweep in sweeps.items()}
    return {
        "preset": "laptop",
        "dataset": "omniglot",
        "changes": {},
        "seeds": SEEDS,
        "machine": {
            "processor": "Some Processor 7000",
            "cores": 2,
            "devices": "1 x cpu",
            "platform": "Linux-6.1-x86_64",
        },
        "versions": {"emergent-icl": "1.0.0", "jax": "0.10.0", "numpy": "2.3.0"},
        "runs": 130,
        "compute_seconds": 12_345.6,
        "verdicts": verdicts,
        "sweeps": sweeps,
    }


def make_run(name, seed, ends, num_steps=50_000, points=50, transient=(), diverged_at=None):
    """A run whose measures rise from chance to `ends`; those in `transient` fall again."""
    rng = np.random.default_rng([seed, sum(name.encode())])
    steps = np.linspace(num_steps / points, num_steps, points).astype(int)
    if diverged_at is not None:
        steps = steps[steps < diverged_at]
    curves = {}
    for measure, (start, end) in ends.items():
        middle, width = rng.normal(0.35, 0.03) * num_steps, 0.06 * num_steps
        rise = 1 / (1 + np.exp(-(steps - middle) / width))
        if measure in transient:
            rise = rise * np.exp(-np.maximum(steps - 0.5 * num_steps, 0) / (0.25 * num_steps))
        noise = 0.0 if measure == "loss" else 0.012
        values = start + (end + rng.normal(0, 0.015) - start) * rise
        values = values + rng.normal(0, noise, len(steps))
        low, high = (0, 10) if measure == "loss" else (0, 1)
        curves[measure] = {
            "steps": steps.tolist(),
            "values": np.clip(values, low, high).round(4).tolist(),
        }
    final = {measure: curve["values"][-1] for measure, curve in curves.items() if curve["values"]}
    return {
        "workdir": f"{name}/seeds=0-4",
        "replica": f"seed={seed}",
        "diverged_at_step": diverged_at,
        "curves": curves,
        "final": final if diverged_at is None else {},
    }


def make_condition(name, value, overrides, ends, chance, seeds=SEEDS, **options):
    runs = {str(seed): make_run(name, seed, ends, **options) for seed in seeds}
    return {"value": value, "overrides": overrides, "chance": chance, "runs": runs}


def make_sweep(title, axis, conditions, measures=("icl", "iwl"), **others):
    return {
        "title": title,
        "axis": axis,
        "notes": "",
        "measures": list(measures),
        "config": dict(BASE),
        "conditions": conditions,
        "search": None,
        **others,
    }


def by_icl_and_iwl(option, label, table, chance_iwl=0.0007, icl_chance=0.5, **options):
    """Conditions of a table {value: (ICL at the end, IWL at the end)}."""
    return {
        f"{label}={value:g}": make_condition(
            f"{label}={value:g}",
            float(value),
            {option: value},
            {"icl": (icl_chance, icl), "iwl": (0.0, iwl), "loss": (7.0, 0.1)},
            {"icl": icl_chance, "iwl": chance_iwl},
            **options,
        )
        for value, (icl, iwl) in table.items()
    }


def burstiness():
    table = {0: (0.5, 0.97), 0.25: (0.53, 0.95), 0.5: (0.66, 0.9), 0.75: (0.8, 0.75)}
    table |= {0.9: (0.9, 0.45), 1: (0.94, 0.05)}
    conditions = by_icl_and_iwl("data.sequences.p_bursty", "p", table)
    return make_sweep("Burstiness", "probability of a bursty sequence", conditions)


def classes():
    """One run is missing, one diverged."""
    table = {100: (0.52, 0.99), 200: (0.6, 0.97), 400: (0.75, 0.9), 800: (0.85, 0.7)}
    table |= {1600: (0.93, 0.4)}
    conditions = by_icl_and_iwl("data.split.num_rare", "classes", table)
    del conditions["classes=400"]["runs"]["3"]
    ends = {"icl": (0.5, 0.9), "iwl": (0.0, 0.5)}
    conditions["classes=800"]["runs"]["2"] = make_run("c", 2, ends, diverged_at=30_100)
    for name, condition in conditions.items():
        condition["chance"]["iwl"] = 1 / float(name.split("=")[1])
    return make_sweep("Number of classes", "classes to learn", conditions)


def multiplicity():
    table = {1: (0.6, 0.95), 2: (0.7, 0.8), 5: (0.85, 0.5), 10: (0.92, 0.2)}
    conditions = by_icl_and_iwl("data.sequences.label_multiplicity", "labels", table)
    return make_sweep("Label multiplicity", "labels per class", conditions, notes="Fig. 3b.")


def variation():
    """No runs."""
    conditions = {
        name: {"value": None, "overrides": {"data.variation": name}, "chance": CHANCE, "runs": {}}
        for name in ("identical", "noise", "drawings")
    }
    return make_sweep("Variation within classes", "what varies", conditions)


def zipf():
    measures = ("icl", "iwl_common", "iwl_rare")
    table = {0: (0.93, 0.2, 0.2), 0.5: (0.9, 0.45, 0.25), 1: (0.85, 0.8, 0.4)}
    table |= {1.5: (0.62, 0.97, 0.35), 2: (0.52, 0.99, 0.1)}
    conditions = {
        f"exponent={value:g}": make_condition(
            f"exponent={value:g}",
            value,
            {"data.sequences.zipf_exponent": value},
            {"icl": (0.5, icl), "iwl_common": (0.0, common), "iwl_rare": (0.0, rare)},
            {"icl": 0.5},
        )
        for value, (icl, common, rare) in table.items()
    }
    # With skewed classes, always predicting the most frequent one scores high.
    for condition, constant in zip(conditions.values(), CONSTANTS, strict=True):
        condition["constant"] = {"icl": 0.5, "iwl_common": constant, "iwl_rare": 0.01}
    return make_sweep("Skewed frequencies", "Zipf exponent", conditions, measures)


def architecture():
    """An inconclusive verdict, and a search without a chosen draw in one condition."""
    table = {"transformer": (0.93, 0.4), "lstm": (0.53, 0.8), "vanilla_rnn": (0.5, 0.75)}
    conditions = {
        name: make_condition(
            name,
            None,
            {"model.sequence_model": name},
            {"icl": (0.5, icl), "iwl": (0.0, iwl), "loss": (7.0, 0.1)},
            {"icl": 0.5, "iwl": 0.0007},
        )
        for name, (icl, iwl) in table.items()
    }

    def draws(best):
        return {
            f"draw={draw}": {
                "overrides": {"training.learning_rate": 10 ** -(2 + draw / 3)},
                "diverged_at_step": None if draw < 3 else 4_000,
                "final": {"icl": best - 0.02 * draw, "iwl": 0.4} if draw < 3 else {},
            }
            for draw in range(4)
        }

    search = {
        "transformer": {"chosen": "draw=0", "draws": draws(0.93)},
        "lstm": {"chosen": "draw=0", "draws": draws(0.55)},
        "vanilla_rnn": {"chosen": None, "draws": {}},
    }
    return make_sweep("Architecture", "sequence model", conditions, search=search)


def transience():
    conditions = {
        "uniform": make_condition(
            "uniform",
            None,
            {"training.num_steps": 500_000},
            {"icl": (0.5, 0.95), "iwl": (0.0, 0.9), "loss": (7.0, 0.05)},
            {"icl": 0.5, "iwl": 0.0007},
            num_steps=500_000,
            transient=("icl",),
        )
    }
    return make_sweep("Transience", "", conditions, plot="curves")


def verdict(name, sweep):
    runs = [
        f"{run['workdir']} ({run['replica']})"
        for condition in sweep["conditions"].values()
        for run in condition["runs"].values()
    ]
    outcome, kind, reason = "holds", "reproduced", ""
    numbers = {"difference": 0.4123, "difference, 95 %": [0.3618, 0.4521], "p": 0.0079365}
    if name == "variation":
        outcome, kind, reason = "undecided", "inconclusive", "there are no runs of 'identical'"
        numbers = {}
    elif name == "architecture":
        outcome, kind, reason = "undecided", "inconclusive", "its interval contains the threshold"
        numbers = {"difference": 0.19, "difference, 95 %": [-math.inf, math.inf], "p": None}
    elif name == "multiplicity":
        outcome, kind = "fails", "not reproduced"
        numbers = {"rho": 0.11, "p": 0.42}
    statistic = {
        "check": "ICL: mean of the last condition minus mean of the first is more than 0.2, "
        "exact permutation p < 0.05",
        "outcome": outcome,
        "numbers": numbers,
        "reason": reason,
    }
    second = {
        "check": "IWL falls: Spearman's rank correlation is negative, p < 0.05",
        "outcome": "undecided" if name == "variation" else "holds",
        "numbers": {} if name == "variation" else {"rho": -0.97, "p": 5e-05},
        "reason": reason if name == "variation" else "",
    }
    is_old = name == "burstiness"
    strict = {
        "verdict": "inconclusive" if is_old else kind,
        "outcomes": ["undecided" if is_old else outcome, second["outcome"]],
        "p": 0.0123,
        "p_adjusted": 0.0861,
    }
    return {
        "verdict": kind,
        "claim": CLAIMS[name],
        "rule": "point" if is_old else "limits",
        "strict": strict,
        "statistics": [statistic, second],
        "runs": runs,
    }


CLAIMS = {
    "burstiness": "The burstier the sequences, the more is learned in context, "
    "and the less in weights.",
    "classes": "Many classes further learning in context.",
    "multiplicity": "Labels that change further learning in context.",
    "variation": "Variation within classes furthers learning in context.",
    "zipf": "At a Zipf exponent near 1 both kinds of learning coexist.",
    "architecture": "Only the transformer learns in context; recurrent networks do not.",
    "transience": "Learning in context can vanish again with further training.",
}
