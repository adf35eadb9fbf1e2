"""Backgrounds that two sets share: pictures that show one scene, found by what they show."""
