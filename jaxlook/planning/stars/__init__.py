"""Path-star graphs: is the first step planned?"""
