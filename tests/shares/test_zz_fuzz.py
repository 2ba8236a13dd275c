from hypothesis import HealthCheck, settings
from test_board_machine import BoardMachine


class M(BoardMachine):
    pass


M.TestCase.settings = settings(
    max_examples=800,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestFuzz = M.TestCase
