//! Dockerfile to graph of steps to image.
