// What nearly every translation unit that touches tensors needs. c10d and
// torch/library.h are left out: they add 2.5 s to every unit, and few need
// them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
