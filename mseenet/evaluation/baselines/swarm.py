"""Binary particle swarm: a search for a good subset of features.

Written out because no maintained library has it: pyswarms, which does, was last released in
2021; NiaPy and MEALPY only round a swarm of real numbers.
"""

from collections.abc import Callable

import numpy as np


def binary_swarm(
    fitness: Callable[[np.ndarray], float], dimensions: int, seed: int, particles=12, moves=15
) -> np.ndarray:
    """Searches for the subset of features with the largest fitness.

    Each bit of a particle has a velocity, pulled towards the particle's best and the
    swarm's best position; the bit is 1 with the probability sigmoid(velocity).

    Reference:
        J. Kennedy and R. C. Eberhart, "A discrete binary version of the particle swarm
        algorithm", IEEE Int. Conf. Systems, Man, and Cybernetics, 1997.

    Args:
        fitness: Judges a subset, bool (dimensions,), which is never empty.
        dimensions: Number of features.
        seed: Of all draws.
        particles: Size of the swarm.
        moves: Of the swarm; particles * (moves + 1) subsets are judged.

    Returns:
        The best subset of all that were judged, bool (dimensions,).
    """
    random = np.random.default_rng(seed)
    shape = particles, dimensions
    limit = 4.0  # of a velocity: each bit keeps a chance of 1.8 % to flip
    velocity = random.uniform(-1, 1, shape)
    position = random.random(shape) < 0.5
    best, best_fitness = position.copy(), np.full(particles, -np.inf)
    for move in range(moves + 1):
        if move:
            leader = best[best_fitness.argmax()]
            to_own, to_leader = random.uniform(0, 2, (2, *shape))
            velocity += to_own * (best.astype(float) - position)
            velocity += to_leader * (leader.astype(float) - position)
            np.clip(velocity, -limit, limit, out=velocity)
            position = random.random(shape) < 1 / (1 + np.exp(-velocity))
        for i in range(particles):
            if not position[i].any():
                position[i, random.integers(dimensions)] = True
            value = fitness(position[i])
            if value > best_fitness[i]:
                best_fitness[i], best[i] = value, position[i]
    return best[best_fitness.argmax()]
