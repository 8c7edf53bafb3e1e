"""Puts a network that is there at once in the place of the real one, in all processes of a cluster.

What happens to lost workers does not depend on what they compute. It answers for a folder of
weights that holds the file `computed`, and notes there each content that it computed. The content
`b"poison"` ends the process, as a crash in a decoder would, and `b"raise"` is a defect.
"""

import hashlib
import importlib.abc
import importlib.util
import os
import sys
import time


class StandIn:
    def __init__(self, weights, profile):
        from mseenet.inference.card import read_card

        self._notes = weights / "computed"
        card = read_card(weights)
        self.card = card if profile is None else profile.applied_to(card)

    def stream(self, images, batch_size, include_rejected):
        from mseenet.inference.classifier import Prediction

        for content in images:
            if content == b"poison":
                os.abort()
            if content == b"raise":
                raise ZeroDivisionError("a defect")
            time.sleep(0.005)
            sha256 = hashlib.sha256(content).hexdigest()
            with self._notes.open("a") as stream:
                stream.write(f"{sha256}\n")
            yield Prediction("rejected", novelty=1 + int(sha256[:4], 16) / 2**16, reasons=("x",))


def patch_classifier(module):
    load = module.Classifier.load

    def load_stand_in(weights, profile=None):
        noted = (weights / "computed").is_file()
        return StandIn(weights, profile) if noted else load(weights, profile)

    module.Classifier.load = load_stand_in


def patch_job(module):
    module.BLOCK, module.SHARD_SECONDS = 16, 0


PATCHES = {"mseenet.inference.classifier": patch_classifier}
if "SMALL_BLOCKS" in os.environ:
    PATCHES["mseenet.archive.job"] = patch_job


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PATCHES:
            return None
        patch = PATCHES.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
