"""Several ways to compute one operator: tables of them, and the choice by cost, by measurement or from a cache."""
