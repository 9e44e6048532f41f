"""Whether the forward solve of a deep equilibrium model converges, how fast, and how hard the backward solve is."""

from rmtdeq.stability.diagnosis import Diagnosis, ForetoldDiagnosis, MeasuredDiagnosis
from rmtdeq.stability.doctor import diagnose
from rmtdeq.stability.limits import Limits
from rmtdeq.stability.singular_values import JacobianLaw, RadiusLaw

__all__ = ["Diagnosis", "ForetoldDiagnosis", "JacobianLaw", "Limits", "MeasuredDiagnosis", "RadiusLaw", "diagnose"]
