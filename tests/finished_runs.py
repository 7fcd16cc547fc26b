"""Complete work directories, created without training."""

import json

from emergent_icl.evaluation.measures import MEASURES


def finish(job, ends, diverged=(), points=2, started=None):
    """Completes a job: the measures of every replica rise linearly to the values in `ends`.

    Args:
      job: the job.
      ends: (measure, name of the replica) -> final value.
      diverged: names of replicas that diverged.
      points: number of points per curve.
      started: time of the first step.
    """
    workdir, num_steps = job.workdir, job.config.training.num_steps
    names = [one["name"] for one in job.config.training.replica_overrides]
    workdir.make()
    workdir.claim(job.config)
    with workdir.metrics.open("w", encoding="utf-8") as file:
        for point in range(points):
            for name in names:
                share = (point + 1) / points
                line = {"step": round(num_steps * share), "replica": name}
                if name not in diverged:
                    line |= {MEASURES.get(m, m): share * ends(m, name) for m in ends.measures}
                file.write(json.dumps(line) + "\n")
    about = {name: {"diverged_at_step": 1} if name in diverged else {} for name in names}
    summary = {
        "step": num_steps,
        "started": started,
        "wall_seconds": 1.5,
        "devices": "1 x cpu",
        "versions": {"jax": "0.9.9"},
        "replicas": about,
    }
    workdir.write_json(workdir.summary, summary)


class Ends:
    """The argument `ends` of `finish`, from {measure: value} or {measure: {replica: value}}."""

    def __init__(self, **values):
        self.values = values
        self.measures = tuple(values)

    def __call__(self, measure, replica):
        value = self.values[measure]
        return value[replica] if isinstance(value, dict) else value
