"""What starting the launcher loads, and that the rooms' public names exist."""

import importlib
import pkgutil
import resource
import subprocess
import sys

import pytest

import models
import pipelines

LIGHT = [
    "pipelines",
    "pipelines.cli",
    "models",
    "models.config",
    "models.errors",
    "models.schema",
    "models.store.store",
    "models.serve.export",
    "models.serve.recommend",
    "models.serve.versions",
]
JOB = [
    "pipelines.job",
    "pipelines.bounded.job",
    "pipelines.bounded.features_job",
    "pipelines.train.fine_tune",
]


def loaded_after(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_neither_tensorflow_nor_beam(module):
    assert not loaded_after(module) & {"tensorflow", "tf_keras", "apache_beam"}


@pytest.mark.parametrize("module", JOB)
def test_the_launcher_does_not_load_tensorflow(module):
    assert not loaded_after(module) & {"tensorflow", "tf_keras"}


def test_help_answers_within_a_second_of_cpu():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "--help"], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "rillet run" in done.stdout
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0


def public_modules() -> list[str]:
    return [
        info.name
        for package in (pipelines, models)
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        if not info.name.endswith("__main__")
    ]


@pytest.mark.parametrize("name", public_modules())
def test_public_names_exist_and_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        if callable(value) and getattr(value, "__module__", "").startswith(("pipelines", "models")):
            assert value.__doc__, f"{name}.{public} has no docstring"
