"""The command line, in this process: what it prints, writes and returns."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asymptest.verify.cli import main
from asymptest.verify.results import read_report

# Claims that take no time. A module of their own, since tests run them by name.
CLAIMS = """
import sympy as sp
from hypothesis import strategies as st
from asymptest.verify.claim import Bound, Claim, Expects, Identity, Source

x = sp.Symbol("x")
SOURCE = Source("A Paper", "equation 1", "printed")


def claim(name, difference, mutants=(), **more):
    return Claim(
        name=name,
        statement=(sp.Eq(x * (x + 1), x**2 + x, evaluate=False),),
        source=SOURCE,
        evidence=(Identity(lambda: {"difference": difference}),),
        mutants={m: Identity(lambda: {"difference": x - 1}) for m in mutants},
        limits="Nothing is left open.",
        **more,
    )


def fail():
    raise RuntimeError("the moon is full")


TRUE = claim("fake/true", x * (x + 1) - x**2 - x, ["sign", "factor"])
FALSE = claim("fake/false", x - 1)
KNOWN = claim("fake/known-to-be-wrong", x - 1, expects=Expects.REFUTED)
RAISING = Claim("fake/raising", (), SOURCE, (Identity(fail),), "none")
LONG = claim("fake/" + "a-very-long-name-" * 5 + "of-a-claim", x - x)
BOUND = Claim(
    "fake/bound [red]",
    (),
    SOURCE,
    (Bound(lambda n: n, lambda n: 7.0),),
    "none",
    st.integers(0, 100),
)
NAMESAKE = claim("fake/true", x - x)
GOOD = (TRUE, KNOWN)
MIXED = (RAISING, TRUE, FALSE)
NOT_CLAIMS = (TRUE, 3)
"""
NETWORKS = """
from asymptest.theory import *

relu_block = Residual(RMSNorm() >> Attention(Uniform(), mask="causal"))
deep = (relu_block >> Residual(RMSNorm() >> Mlp(relu, expansion=1))) * 2
sampled = Attention(Softmax(), mask="causal", heads="sqrt")
orthogonal = Dense(init="orthogonal")
number = 3
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command in an empty folder with the two modules; 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    # A name of its own for each test: modules stay loaded.
    names = {kind: f"{kind}_{abs(hash(tmp_path))}" for kind in ("claims", "networks")}
    Path(f"{names['claims']}.py").write_text(CLAIMS)
    Path(f"{names['networks']}.py").write_text(NETWORKS)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([argument.format(**names) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def one_line(message: str) -> bool:
    return message.startswith("asymptest: ") and message.count("\n") == 1


def test_check_prints_a_table_and_writes_the_report(run: Run) -> None:
    code, out, err = run(
        "check", "{claims}:GOOD", "--out", "r/report.json", "--jobs", "1"
    )
    assert (code, err) == (0, "")
    row = next(line for line in out.splitlines() if line.startswith("fake/true"))
    assert row.split()[1:3] == ["HOLDS", "PROVED"]
    assert "2/2" in row
    assert "2 of 2 verdicts as expected; 2 of 2 mutants killed." in out
    names = [verdict.name for verdict in read_report(Path("r/report.json"))]
    assert names == ["fake/true", "fake/known-to-be-wrong"]


def test_an_unexpected_verdict_is_explained_and_exits_1(run: Run) -> None:
    code, out, _ = run("check", "{claims}:FALSE", "--jobs", "1")
    assert code == 1
    assert "fake/false: expected HOLDS, got REFUTED (seed 0, profile quick)" in out
    assert "counterexample: difference: {{'x':".replace("{{", "{") in out
    assert "A Paper, equation 1; printed" in out


def test_a_claim_that_raises_is_an_error_and_the_others_run(run: Run) -> None:
    code, out, _ = run("check", "{claims}:MIXED", "--jobs", "1")
    assert code == 1
    found = {v.name: str(v.verdict) for v in read_report(Path("results/report.json"))}
    assert found == {
        "fake/raising": "ERROR",
        "fake/true": "PROVED",
        "fake/false": "REFUTED",
    }
    assert "the moon is full" in " ".join(out.split())


def test_a_claim_file_that_raises_is_an_error_and_the_others_run(run: Run) -> None:
    Path("broken_claims.py").write_text("raise RuntimeError('no moon')\n")
    code, out, _ = run("check", "broken_claims:LEMMA", "{claims}:TRUE", "--jobs", "1")
    assert code == 1
    assert "broken_claims:LEMMA: expected HOLDS, got ERROR" in out
    assert "RuntimeError: no moon" in out
    assert [str(v.verdict) for v in read_report(Path("results/report.json"))] == [
        "ERROR",
        "PROVED",
    ]


def test_alpha_is_shared_by_the_claims_of_the_run(run: Run) -> None:
    from asymptest.verify.check import ALPHA
    from asymptest.verify.claim import PROFILES
    from asymptest.verify.run import run_claims
    from asymptest.verify.select import Reference

    shares: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "asymptest.verify.run.perform",
            lambda task: shares.append(task.alpha) or _verdict(task.reference.name),
        )
        names = [Reference(name, "json") for name in "abcd"]
        run_claims(names, PROFILES["quick"], jobs=1)
    assert shares == [ALPHA / 4] * 4


def _verdict(name: str):
    from asymptest.verify.claim import Expects, Source, Status, Verdict

    nowhere = Source("", "")
    return Verdict(
        name, nowhere, Expects.HOLDS, Status.PROVED, (), {}, 0, "quick", 0.0, {}, ""
    )


def test_json_is_one_object_a_line_and_nothing_else(run: Run) -> None:
    code, out, err = run("check", "{claims}:MIXED", "--json", "--jobs", "1")
    assert (code, err) == (1, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert [v["agrees"] for v in found] == [False, True, False]
    code, again, _ = run("report", "--json")
    assert (code, again) == (0, out)


def test_tables_fit_80_columns_without_losing_a_letter(run: Run) -> None:
    targets = [f"{{claims}}:{name}" for name in ("LONG", "BOUND", "MIXED")]
    for command in (["check", *targets, "--jobs", "1"], ["claims", *targets]):
        _, out, _ = run(*command)
        assert max(map(len, out.splitlines())) <= 80
        assert "\x1b" not in out
        assert "…" not in out
        letters = "".join(line.split("  ")[0] for line in out.splitlines()[2:])
        assert "a-very-long-name-" in letters
        # Brackets are text, not a style.
        assert "fake/bound [red]" in out


def test_a_narrow_terminal_cuts_no_numbers(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, wide, _ = run("check", "{claims}:MIXED", "--jobs", "1")
    monkeypatch.setenv("COLUMNS", "40")
    _, narrow, _ = run("report")
    assert narrow in wide


def test_the_report_is_the_table_again(run: Run) -> None:
    _, out, _ = run("check", "{claims}:MIXED", "--jobs", "1", "--out", "a.json")
    code, again, _ = run("report", "--results", "a.json")
    assert code == 0
    assert again == out.replace("Report: a.json\n", "")


def test_claims_lists_what_is_claimed(run: Run) -> None:
    code, out, _ = run("claims", "{claims}:GOOD")
    assert code == 0
    assert "x*(x + 1) = x**2 + x" in out
    assert "A Paper, equation 1" in out
    _, lines, _ = run("claims", "{claims}:GOOD", "--json")
    found = [json.loads(line) for line in lines.splitlines()]
    assert [claim["expects"] for claim in found] == ["HOLDS", "REFUTED"]
    assert found[0]["mutants"] == ["sign", "factor"]
    assert found[0]["statement"] == ["x*(x + 1) = x**2 + x"]


def test_the_catalogue_is_selected_by_prefix(run: Run) -> None:
    code, out, _ = run("claims", "text/", "--json")
    assert code == 0
    names = [json.loads(line)["name"] for line in out.splitlines()]
    assert names == ["text/pre-norm-block-on-real-tokens"]


def test_a_prefix_finds_all_its_claims_in_whatever_files_they_are() -> None:
    from asymptest.verify import all_claims, select

    names = [claim.name for claim in all_claims()]
    assert [reference.name for reference in select()] == names
    for prefix in {name.partition("/")[0] + "/" for name in names}:
        found = [reference.name for reference in select([prefix])]
        assert found == [name for name in names if name.startswith(prefix)]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["check", "nothing-like-it/"], ["'nothing-like-it/'", "asymptest claims"]),
        (["check", "nowhere:x"], ["'nowhere'", "module:attribute"]),
        (["check", "nowhere.at.all:x"], ["'nowhere.at.all'"]),
        (["check", "{claims}:NOPE"], ["no attribute 'NOPE'"]),
        (["check", "{claims}:NOT_CLAIMS"], ["a Claim", "a int"]),
        (["check", "{claims}:TRUE", "{claims}:NAMESAKE"], ["'fake/true'", "rename"]),
        (["check", "--profile", "huge"], ["--profile", "'huge'", "quick"]),
        (["check", "--jobs", "0"], ["--jobs", "at least 1", "got 0"]),
        (["check", "--seed", "-1"], ["--seed", "got -1"]),
        (["check", "--seed", "x"], ["--seed", "valid integer"]),
        (["nonsense"], ["'nonsense'", "asymptest --help"]),
        (["report"], ["results/report.json", "asymptest check"]),
        (["bench"], ["benchmarks", "checkout"]),
        (["derive", "rleu"], ["'rleu'", "relu"]),
        (["derive", "relu(1)"], ["'relu(1)'"]),
        (["derive", "hermite(1.5)"], ["whole number"]),
        (["derive", "relu", "--limit", "scale"], ["'scale'", "activation"]),
        (["derive", "leaky_relu(1/0)"], ["'1/0'"]),
        (["derive", "leaky_relu(exit())"], ["no activation"]),
        (["derive", "leaky_relu(exit)"], ["'exit'", "no number"]),
        (["derive", "{networks}:number"], ["must be a network", "int"]),
        (["kernel", "{networks}:deep"], ["--input", "--text"]),
        (["kernel", "{networks}:deep", "--text", "no.txt"], ["no.txt", "default"]),
        (["kernel", "{networks}:deep", "--text", "binary"], ["binary", "UTF-8"]),
        (["kernel", "{networks}:deep", "--text", "empty"], ["no word"]),
        (["kernel", "{networks}:deep", "--input", "no.npy"], ["no.npy"]),
        (
            ["kernel", "{networks}:deep", "--input", "bad.npy"],
            ["bad.npy", "semidefinite"],
        ),
        (["kernel", "{networks}:deep", "--input", "pickle.npy"], ["pickle.npy"]),
        (["kernel", "{networks}:deep", "--input", "two.npz"], ["several", "a, b"]),
        (["kernel", "{networks}:deep", "--input", "empty"], ["empty", "numpy.save"]),
        (
            ["kernel", "{networks}:deep", "--text", "default", "--width", "4"],
            ["width = 4", "different tokens"],
        ),
        (
            ["kernel", "{networks}:deep", "--text", "default", "--tokens", "0"],
            ["got 0"],
        ),
        (["figures", "nope"], ["'nope'", "kernels_by_depth"]),
        (["figures", "--results", "no.json"], ["no.json", "asymptest check"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].islower() else "",
)
def test_bad_input_gets_one_line_and_exit_code_2(
    run: Run, arguments: list[str], parts: list[str]
) -> None:
    Path("binary").write_bytes(b"\xff\xfe\x00")
    Path("empty").touch()
    np.save("bad.npy", np.array([[1.0, 2.0], [2.0, 1.0]]))
    np.save("pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez("two.npz", a=np.eye(2), b=np.eye(2))
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert one_line(err)
    for part in parts:
        assert part in err


def test_a_defect_is_not_dressed_as_bad_input(run: Run) -> None:
    Path("crashing.py").write_text("raise ZeroDivisionError('ours')\n")
    with pytest.raises(ZeroDivisionError):
        run("derive", "crashing:network")


def test_derive_prints_steps_as_text_latex_and_html(run: Run) -> None:
    code, text, _ = run("derive", "leaky_relu(0.2)")
    assert code == 0
    assert "leaky_relu(1/5)" in text
    assert "Price: " in text
    assert max(map(len, text.splitlines())) <= 80
    _, latex, _ = run("derive", "relu", "--format", "latex")
    assert latex.startswith("\\documentclass")
    assert latex.endswith("\\end{document}\n")
    assert latex.count("\\[") == latex.count("\\]") > 3
    _, page, _ = run("derive", "relu", "--format", "mathml")
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<math") == page.count("</math>") > 3


def test_derive_prints_the_recursion_of_a_network(run: Run) -> None:
    code, text, _ = run("derive", "{networks}:deep")
    assert code == 0
    assert "2 times, from K_0 to" in text
    assert "asin" in text
    _, latex, _ = run("derive", "{networks}:deep", "--format", "latex")
    prose = [line for line in latex.splitlines() if line.startswith("\\paragraph")]
    # Outside the formulas in a line, an underscore is written \_.
    texts = [re.sub(r"\$.*?\$", "", line) for line in prose]
    assert all("_" not in text.replace("\\_", "") for text in texts)


def test_derive_prints_what_is_left_as_all_parameters_grow(run: Run) -> None:
    code, text, _ = run("derive", "{networks}:sampled", "--limit", "scale")
    assert code == 0
    assert "f(x; c theta) = c^3 (F + O(exp(-gap c^4)))" in text
    assert "F = Attention(Saturated(), 'causal', 'sqrt')" in text
    _, latex, _ = run(
        "derive", "{networks}:sampled", "--limit", "scale", "--format", "latex"
    )
    assert latex.count("\\[") == latex.count("\\]") >= 3


def test_kernel_of_an_array_at_all_depths(run: Run) -> None:
    np.save("K0.npy", np.eye(3))
    code, out, _ = run("kernel", "{networks}:deep", "--input", "K0.npy", "--out", "K")
    assert code == 0
    assert "depth" in out
    with np.load("K", allow_pickle=False) as found:
        assert found["kernels"].shape == (3, 3, 3)
        assert (found["kernels"][0] == np.eye(3)).all()
        assert (found["standard_error"] == 0).all()


def test_kernel_of_sampled_attention_has_a_standard_error(run: Run) -> None:
    np.save("K0.npy", np.eye(3))
    more = ("--samples", "320", "--out", "K.npz")
    run("kernel", "{networks}:sampled", "--input", "K0.npy", *more)
    with np.load("K.npz") as found:
        error = found["standard_error"]
    assert (error[0] == 0).all()
    assert error[1, 0, 0] == 0  # the first position sees only itself
    assert 0 < error[1, 2, 2] < 0.1


def test_kernel_of_a_text_beside_finite_networks(run: Run) -> None:
    Path("poem.txt").write_text("Rose is a rose is a rose is a rose.")
    code, out, _ = run(
        *("kernel", "{networks}:deep", "--text", "poem.txt", "--tokens", "5"),
        *("--width", "32", "--copies", "200", "--out", "K.npz"),
    )
    assert code == 0
    assert "5 tokens, 3 different" in out
    with np.load("K.npz") as found:
        K, mean, error = (
            found["kernels"][-1],
            found["finite_mean"],
            found["finite_error"],
        )
        assert (found["tokens"] == [0, 1, 2, 0, 1]).all()
    z = float((abs(mean - K) / error).max())
    relative = (abs(mean - K) / np.sqrt(np.outer(K.diagonal(), K.diagonal()))).max()
    assert f"largest relative difference {relative:.2g}, largest z {z:.2f}" in out
    assert (
        relative < 0.1
    )  # 200 networks of width 32: sqrt(2 / 32 / 200) = 0.018 a layer


def test_an_exact_network_has_no_z(run: Run) -> None:
    np.save("K0.npy", np.eye(2))
    _, out, _ = run(
        "kernel", "{networks}:orthogonal", "--input", "K0.npy", "--width", "4"
    )
    assert "z" not in out.splitlines()[-1]


def test_benchmarks_are_run_where_there_are_some(run: Run) -> None:
    Path("benchmarks").mkdir()
    Path("benchmarks/test_one.py").write_text("def test_one(): assert False\n")
    assert run("bench")[0] == 1


def test_the_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("asymptest 0.")
