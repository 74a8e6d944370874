"""Path-star graphs: do models plan the first step?"""
