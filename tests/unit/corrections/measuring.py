"""What plain and corrected encoders measure."""

from skrr_engine.corrections.fit import fit_corrections
from skrr_engine.measure.execute import assign, encode
from skrr_engine.measure.objective import Tally

SKIP = assign(8, [1, 4])


def measured(objective, stack, assignment):
    tally = Tally(objective)
    for batch in objective.batches:
        tally.add(batch, encode(stack, assignment, batch))
    return tally.total()


def fitted(sets, stack, assignment=SKIP, settings=None, **options):
    return fit_corrections(sets(stack, 150, 1, **options), sets(stack, 30, 2, **options), assignment, settings)


def corrected(objective, stack, found):
    one = found.corrections.applied(stack)
    return measured(objective, one.stack, one.assignment)
