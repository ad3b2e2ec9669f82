// The module: everything that is compiled into mmsb.ptx. `ci/ptx` compiles it; see README.md.
#include "apply.cu"
#include "combine.cu"
#include "copy.cu"
#include "digest.cu"
#include "sum.cu"
