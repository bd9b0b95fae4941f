"""Shape analysis with octree-based convolutional networks (O-CNN).

Paper: Wang, Liu, Guo, Sun, Tong, "O-CNN: Octree-based Convolutional Neural Networks for 3D Shape
Analysis", ACM TOG 36(4), 2017. A shape becomes an octree; features live only in the octants around
its surface, so that cost and memory grow with the area of the surface, not with the volume.

Example:
    >>> from apps.ocnn import inputs, model, octree
    >>> trees = [octree.build(points, normals, depth=5) for points, normals in clouds]
    >>> network = model.lenet(depth=5, classes=40)
    >>> logits = network(inputs.arrays(octree.merge(trees), network.input))
"""
