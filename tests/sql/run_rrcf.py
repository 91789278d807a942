"""Scores the last point of each window with rrcf, in many trees, and prints the mean and the variance of its collusive displacement.

Standard input: {"windows": [[[1.0, 2.0], ...], ...], "trees": 200}.
"""

import json
import sys

import numpy
import rrcf

task = json.load(sys.stdin)
numpy.random.seed(17)
answers = []
for window in task["windows"]:
    points = numpy.array(window)
    scores = [rrcf.RCTree(points).codisp(len(points) - 1) for _ in range(task["trees"])]
    answers.append((float(numpy.mean(scores)), float(numpy.var(scores))))
json.dump(answers, sys.stdout)
