"""This project's rewards inside other people's trainers: TRL (`trl`), verl (`verl`) and verifiers (`verifiers`).

Each module speaks one trainer's calling convention; `rows` is what they share. None of the trainers is a dependency.
"""
