"""The generator we recommend: classes of people and of visits, rates shrunk along the hierarchy of codes."""
