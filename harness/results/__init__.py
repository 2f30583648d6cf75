"""What a run leaves behind: findings, statistics, causes."""
