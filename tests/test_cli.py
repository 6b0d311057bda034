"""The command line as a user meets it, in processes of its own where start-up matters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxml import SYSTEMS, cli
from jaxml.commands import reproduce

ROOT = Path(__file__).resolve().parents[1]


def jaxml(*words, **env):
    """Runs the command line in a new process."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    full = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    full |= {"XLA_FLAGS": quick, **env}
    full = {name: value for name, value in full.items() if value is not None}
    run = [sys.executable, "-m", "jaxml.cli", *words]
    return subprocess.run(run, capture_output=True, text=True, env=full, timeout=300)


def test_help_and_list_name_everything(capsys):
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    for group, verbs in cli.GROUPS.items():
        assert all(f"{group} {verb}" in text for verb in verbs)
    assert cli.run(["list"]) == 0
    listing = capsys.readouterr().out
    assert [line.split()[0] for line in listing.splitlines()] == list(SYSTEMS)


def test_every_target_exists_and_explains_itself(capsys):
    words = [[name] for name in cli.COMMANDS]
    words += [[group, verb] for group, verbs in cli.GROUPS.items() for verb in verbs]
    for line in words:
        with pytest.raises(SystemExit) as done:
            cli.run([*line, "--help"])
        assert done.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) > 5, line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tln"], "no command or system 'tln'; did you mean 'tnl'?"),
        (["zzz"], "no command or system 'zzz'; there are list, reproduce, "),
        (["tnl", "trian"], "no verb of tnl 'trian'; did you mean 'train'?"),
        (["tnl"], "`jaxml tnl` needs a verb: train, generate, eval, import, export, harness,"),
        (["reproduce", "tnll"], "system must be one of"),
        (["tnl", "train", "x", "--preset", "40n"], "did you mean '40m'?"),
        (["tnl", "generate", "nowhere"], "nowhere holds no training run"),
        (["tnl", "train", "x", "--batch-size", "0"], "batch_size must be > 0"),
        (["tnl", "train", "x", "--mesh.data", "3", "--mesh.seq", "3"], "devices"),
        (["tnl", "train", "x", "--corpus.name", "enwik9"], "enwik9"),
        (["data", "prepare", "no-such-set"], "no-such-set"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_errors_are_one_line_with_status_2(words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["jaxml", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    error = capsys.readouterr().err
    assert done.value.code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_system_that_is_named_and_not_built_says_so(monkeypatch):
    monkeypatch.setattr(cli, "SYSTEMS", {**SYSTEMS, "toy": "A toy"})
    with pytest.raises(cli.UsageError, match="toy is not built yet; `jaxml list` shows what is"):
        cli.resolve(["toy", "train"])
    monkeypatch.setattr(reproduce, "SYSTEMS", cli.SYSTEMS)
    with pytest.raises(ValueError, match="toy has no recipe yet"):
        reproduce.recipes(["toy"])


def test_a_wrong_flag_suggests_the_right_one(capsys):
    with pytest.raises(SystemExit) as done:
        cli.run(["tnl", "train", "x", "--batch-sise", "4"])
    assert done.value.code == 2
    captured = capsys.readouterr()
    assert "--batch-size" in captured.err + captured.out


def test_a_preset_sets_the_defaults_that_flags_change(capsys):
    with pytest.raises(SystemExit):
        cli.run(["tnl", "train", "x", "--preset", "40m", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "d, of the residual stream. (default: 512)" in text


def test_start_up_is_quick_and_imports_nothing_heavy():
    code = "import sys, jaxml; print([m for m in ('jax', 'numpy', 'flax') if m in sys.modules])"
    run = [sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(run, capture_output=True, text=True, env=env).stdout.strip() == "[]"
    code = (
        "import sys, jaxml.cli as c; c.run(['--help']);"
        "sys.exit(any(m in sys.modules for m in ('jax', 'numpy', 'tyro', 'rich')))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, env=env).returncode == 0
    )


def test_systems_load_when_touched():
    code = "import jaxml; print(jaxml.tnl.PRESETS['tiny'].width)"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "32"
    import jaxml

    with pytest.raises(AttributeError, match="no attribute 'tln'"):
        jaxml.tln  # noqa: B018


def test_train_then_generate(tmp_path, capsys):
    """Trained in a process of its own, as a user does; read again here."""
    flags = ["--preset", "tiny", "--run.num-steps", "3", "--optim.warmup-steps", "0"]
    flags += ["--model.num-layers", "1", "--eval-every", "0"]
    folder = str(tmp_path / "run")
    first = jaxml("tnl", "train", folder, *flags)
    assert first.returncode == 0, first.stderr
    assert {"config.json", "tokenizer.json", "metrics.jsonl"} <= set(os.listdir(folder))
    logged = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in logged]
    assert steps[-1] == 3
    with pytest.raises(ValueError, match="holds a run with seq_len = 64; here seq_len = 32"):
        cli.run(["tnl", "train", folder, *flags, "--seq-len", "32"])
    config = ["--config", f"{folder}/config.json"]
    with pytest.raises(ValueError, match="holds a run with seed = 0; here seed = 1"):
        cli.run(["tnl", "train", folder, *config, "--seed", "1"])
    with pytest.raises(ValueError, match="preset and config exclude each other"):
        cli.run(["tnl", "train", folder, *config, "--preset", "tiny"])
    capsys.readouterr()
    assert cli.run(["tnl", "generate", folder, "--prompt", "The ", "--num-tokens", "12"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("The ")
    assert len(text.rstrip("\n")) >= 14
    kept = str(tmp_path / "context.safetensors")
    words = ["tnl", "generate", folder, "--num-tokens", "12"]
    cli.run([*words[:3], "--prompt", "The ", "--num-tokens", "0", "--save-context", kept])
    capsys.readouterr()
    cli.run([*words, "--context", kept])
    assert capsys.readouterr().out.rstrip("\n") == text.removeprefix("The ").rstrip("\n")
    os.remove(f"{folder}/tokenizer.json")
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        cli.run(words)


def test_doctor_says_which_kernel_and_why(capsys, no_data):
    assert cli.run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "lightning_attention" in text
    assert "xla" in text
    assert "tiny_shakespeare" in text
    assert "not found" in text
