"""The paper's claims, one by one: variants of one small model, trained and measured alike.

python -m reports.ablation RUNS --english FOLDER     (see __main__.py)
"""
