// libtorch ships the header of its gloo backend, but not the gloo headers that it includes. This folder
// declares the parts that it needs. libtorch contains these classes. c10d_groups.cc does not construct them,
// and calls them only through libtorch.
#pragma once
