"""One node of a job: torchrun and its workers, where the nodes meet, and what happens after their end."""
