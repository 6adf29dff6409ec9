"""What credits may be called: computed from the certificate, said over every table of them."""

from __future__ import annotations

import dataclasses

from caretrace.explain.certificate import Certificate
from caretrace.explain.methods import METHODS


@dataclasses.dataclass(frozen=True)
class Standing:
    """How far the credits of a method may be believed.

    Args:
        tone: `good`, `warn` or `bad`; chooses the colour, the words carry the meaning.
        heading: The certificate's own heading.
        noun: What the credits are called in titles; the word importance stands there alone only when certified.
        sentence: What that means for the reader.
        looked: Whether they are weights of attention, which raise and lower nothing.
    """

    tone: str
    heading: str
    noun: str
    sentence: str
    looked: bool = False


def standing(certificate: Certificate, method: str) -> Standing:
    """How far the credits of `method` may be believed, by the certificate.

    Args:
        certificate: That of the bundle, for this configuration.
        method: A key of `explain.methods.METHODS`.
    """
    heading = certificate.heading(method)
    if certificate.certified(method):
        return Standing("good", heading, "Importance", _CERTIFIED)
    if certificate.faithful(method):
        return Standing("warn", heading, "What moved the model", _FAITHFUL)
    if METHODS[method].kind == "attention":
        return Standing("bad", heading, "What the model looked at (not importance)", _LOOKED, looked=True)
    return Standing("bad", heading, "Credits (not importance)", _NOT)


_CERTIFIED = (
    "On simulated patients whose causes of death were planted, this method found them and passed every gate. It still "
    "says what moved this model, not what harmed or helped this person."
)
_FAITHFUL = (
    "On simulated patients this method told truly what moves the model; but the model itself leans on events that only "
    "travel with a cause, so read every line as a habit of the model, not as a cause."
)
_LOOKED = (
    "Weights of attention. What is looked at need not move the risk, and what moves it need not be looked at."
)
_NOT = (
    "This method has not passed the test on planted truth for this configuration. The figures are exact, their reading "
    "as reasons is not."
)
