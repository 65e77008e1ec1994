"""The catalogue: every claim comes out as expected and tells its mutants apart."""

from ast import literal_eval
from dataclasses import replace

import pytest
import sympy as sp

import asymptest.verify.weights as weights
from asymptest.verify.catalogue import all_claims
from asymptest.verify.check import check
from asymptest.verify.claim import Claim, Expects, Status

CLAIMS = {claim.name: claim for claim in all_claims()}


def test_names_are_unique_and_say_their_file() -> None:
    """A name is used once and has the form file/claim."""
    assert len(CLAIMS) == len(list(all_claims())) >= 16
    assert all(name.count("/") == 1 for name in CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_statement_is_no_truth_value(claim: Claim) -> None:
    """SymPy evaluates an ill-typed equation to False, and prints it without complaint."""
    assert claim.statement
    assert not any(part in (sp.true, sp.false) for part in claim.statement)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_that_holds_has_mutants(claim: Claim) -> None:
    """Without a wrong variant to reject, a verdict is worth nothing."""
    if claim.expects is Expects.HOLDS:
        assert claim.mutants
    else:
        assert claim.counterexample
        assert CLAIMS[claim.repaired].expects is Expects.HOLDS


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_claim_comes_out_as_expected(claim: Claim) -> None:
    """The main job, as `asymptest check` runs it."""
    verdict = check(claim, "quick", seed=1)
    assert verdict.agrees, verdict
    survivors = [
        n for n, f in verdict.mutants.items() if f.verdict is not Status.REFUTED
    ]
    assert not survivors
    assert all(finding.comparisons > 0 for finding in verdict.evidence)


def test_a_verdict_replays() -> None:
    """The same seed gives the same numbers, another seed others."""
    claim = CLAIMS["duals/erf-networks"]
    first, again, other = (check(claim, "quick", seed) for seed in (3, 3, 4))
    assert first.evidence == again.evidence
    assert first.evidence != other.evidence


def test_lemma_7_shrinks_to_the_known_counterexample() -> None:
    """The search finds two scores one apart, as far out as kappa asks, and no farther."""
    verdict = check(CLAIMS["saturation/lemma-7-printed"], "quick", seed=2)
    high, low = literal_eval(verdict.evidence[0].counterexample or "")
    assert high - low == 1
    assert 90 <= high <= 100


@pytest.mark.parametrize(
    "name",
    ["wick/heads-average-kernels", "wick/normalised-skip", "duals/relu-networks"],
)
def test_wrong_weights_are_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights 3 % too large in the finite network alone turn a claim red."""
    normal, haar = weights.normal, weights.haar
    monkeypatch.setattr(weights, "normal", lambda *a, **k: 1.03 * normal(*a, **k))
    monkeypatch.setattr(weights, "haar", lambda *a, **k: 1.03 * haar(*a, **k))
    claim = replace(CLAIMS[name], mutants={})
    assert check(claim, "quick").verdict is Status.REFUTED
