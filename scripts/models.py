"""The models of the zoo by kind, as the commands know them before they import anything heavy."""

SPHERES = tuple(f"concentric_spheres_{dim}d" for dim in (2, 3, 10, 900))
SYNTHETIC = (*SPHERES, "energy_landscape")
IMAGES = ("mnist", "cifar10")
# With those beyond the paper.
ALL_IMAGES = (*IMAGES, "cifar10_conv")
# model -> the name of its data set in the paper, or its own
NAMES = {
    **{f"concentric_spheres_{dim}d": f"Concentric spheres {dim}d" for dim in (2, 3, 10, 900)},
    "energy_landscape": "Three Minima",
    "mnist": "MNIST",
    "cifar10": "Cifar10",
    # Beyond the paper.
    "cifar10_conv": "CIFAR-10, convolutional",
}
