"""The way that the original code works, written anew, as what our speed is compared with.

The same model, data and loss; what differs is how they are computed: plain convolutions and
pooling, layers one by one, logits of every token, images made in Python one sequence at a time
and fed as numbers, metrics fetched at every step, evaluation by single sequences. It runs in
the same process as our code, so with huge pages too: a conservative comparison.
"""
