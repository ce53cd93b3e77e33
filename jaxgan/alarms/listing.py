"""The alarms of every run. A further one is a further value here; `docs/alarms.md` tells of which
runs the thresholds come."""

from jaxgan.alarms.alarm import Alarm, above, below, either, grown, held, smallest, unless

ALARMS = (
    Alarm(
        "collapse",
        "what is made varies far less than the data",
        "a penalty (r1 and r2), relativistic losses, packing (--model.pack), or a lower generator "
        "rate",
        held(5, below("spread", 0.1)),
    ),
    Alarm(
        "saturation",
        "the discriminator is right of everything and learns nothing",
        "a penalty (r1), a lower discriminator rate, instance noise or augmentation",
        held(5, unless(below("accuracy", 0.99), below("signal", 0.02))),
    ),
    Alarm(
        "overfitting",
        "the discriminator knows its training examples by heart",
        "augmentation (adaptive), more data, a stronger penalty, or a smaller discriminator",
        held(10, either(above("overfitting", 0.6), above("sureness", 0.95))),
    ),
    Alarm(
        "vanishing gradients",
        "a player no longer gets a gradient",
        "another objective (nonsaturating or relativistic), normalisation, or fewer layers",
        held(5, unless(below("accuracy", 0.9), smallest("gradient_", 1e-4))),
    ),
    Alarm(
        "exploding gradients",
        "a gradient is far larger than it was",
        "lower rates, clipping (optax.clip_by_global_norm), or a penalty (r1)",
        held(2, grown("gradient_", 100.0, 10.0, 3)),
    ),
    Alarm(
        "diverging losses",
        "a loss is far larger than it was",
        "lower rates, or a penalty (r1)",
        held(3, grown("loss", 20.0, 20.0, 3)),
    ),
)
NOT_FINITE = "not finite"  # which ends a run by itself, or takes it back
