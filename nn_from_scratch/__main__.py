"`python -m nn_from_scratch` is the command `nn_train`."

import sys

from nn_from_scratch.cli import main

sys.argv[0] = "python -m nn_from_scratch"  # what the usage line calls it
main()
