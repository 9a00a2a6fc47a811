"""The three ways in which a file is rejected (section 12), with the exit codes given there."""


class Invalid(ValueError):
    exit_code = 0


class Corrupt(Invalid):
    exit_code = 4


class Unsupported(Invalid):
    exit_code = 5


class TooLarge(Invalid):
    exit_code = 6


def check(condition: bool, problem: str) -> None:
    if not condition:
        raise Corrupt(problem)
