"""Fleets: identical replicas of one image behind one router, scaled and replaced step by step."""
