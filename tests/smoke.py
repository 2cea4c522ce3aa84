"""What a new user writes first: a network of their own, with a skip connection and a shared layer, that learns two moons.

    python tests/smoke.py
"""

import nn_from_scratch as nn


class Skip(nn.Module):
    def __init__(self):
        self.inside, self.shared, self.outside = nn.Linear(2, 16, rng=0), nn.Linear(16, 16, rng=1), nn.Linear(16, 2, rng=2)

    def __call__(self, x):
        hidden = nn.relu(self.inside(x))
        for _ in range(2): hidden = hidden + nn.relu(self.shared(hidden))  # the same layer twice, each time around a skip
        return self.outside(hidden)


(x, y), valid = nn.train_valid_split(*nn.moons(400, noise=0.1, rng=0), valid=0.25, rng=0)
model = Skip()
history = nn.fit(model, nn.cross_entropy, nn.Adam(lr=0.01), (x, y), valid, epochs=30, metrics=[nn.accuracy], progress=False)
accuracy = nn.evaluate(model, nn.cross_entropy, valid, metrics=[nn.accuracy])["accuracy"]
print(f"{history.stopped} after {len(history.train_loss)} epochs, {accuracy:.1%} of new points right")
if accuracy < 0.95: raise SystemExit("that is too few")
