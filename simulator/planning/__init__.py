"""Questions that a prediction answers: how long, does it fit, how far from the bounds, and what if."""

from simulator.planning.fit import Fit, remedy, worst
from simulator.planning.predict import Prediction, load_calibration, predict

__all__ = ["Fit", "Prediction", "load_calibration", "predict", "remedy", "worst"]
