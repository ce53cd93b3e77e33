"""The README's Python runs, and its commands name options that exist."""

import re
import shlex

from conftest import ROOT

from jaxgan.cli import main

README = (ROOT / "README.md").read_text()


def test_the_python_of_the_readme_runs():
    code, fused = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(fused, {})
    assert "range(500)" in code and "key(2), 10)" in code
    scope: dict = {}
    exec(code.replace("range(500)", "range(2)").replace("key(2), 10)", "key(2), 3)"), scope)
    assert scope["images"].shape == (64, 28, 28, 1)
    assert scope["metrics"]["loss_generator"].shape == (3,)
    assert int(scope["state"].step) == 2


def test_the_train_commands_of_the_readme_are_valid(capsys):
    commands = re.findall(r"jaxgan (train[^#`\n]*)", README)
    assert len(commands) >= 5
    for command in commands:
        words = [word for word in shlex.split(command) if word not in ("--help", "&&")]
        assert main([*words, "--devices", "1", "--batch-size", "64", "--dry-run"]) == 0, command
