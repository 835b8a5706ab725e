"""Small programs that train on real data, one for every shape of task, in fastrnn and the same in torch.

Each is run by its name, as `python -m bench.tasks.digits`, and needs the extra called tasks; `--help` shows what can
be chosen. It trains a model of fastrnn and its twin of torch, from the same weights on the same batches, and prints
how both go and where they end; `--seeds 3` tells a difference from chance, `--plot FILE` draws the curves.

========== ============================================ ================================================
program    shape                                        what is learned
========== ============================================ ================================================
digits     many to one                                  handwritten digits, read row by row
adding     many to one, over a long range               the sum of two of 100 numbers, by RNN and LSTM
characters many to many, equal, the state carried over  the next character of a novel
series     many to many, equal, real numbers            the sunspots of the next year
generation one to many                                  to write the image of a given digit
phonemes   many to many, unequal                        from spelling to pronunciation
========== ============================================ ================================================

`g2p_en` trains nothing: it runs the networks of the package of that name, and times both. `data_parallel` and
`data_parallel_mpi` train by several processes, in PyTorch and without it (which needs the extra called mpi), and
compare the weights with those of one; `shares` is what they have in common.

The models are in `many_to_one`, `many_to_many` (which share `readout`), `generation` and `phonemes`. The programs of
the table share `program`, the command line; `training`, the loop; and `curves`, which sums up and draws. All have
`needs`, for packages that are missing.
"""
