-- p0 = 'default'
-- p1 = '(?i)(?:^|[^\\p{L}\\p{N}])mail\\-bot(?:$|[^\\p{L}\\p{N}])'
-- p2 = 'send_email'
-- p3 = 'reply'
-- p4 = ' '
-- p5 = 3
-- p6 = 'new'
-- p7 = 'old'
-- columns: Name:string, Took:string
WITH s0 AS NOT MATERIALIZED (
  SELECT
    "TenantId" AS c4,
    "AgentName" AS c12,
    "ToolName" AS c20,
    "PolicyVersion" AS c28
  FROM "AgentActivity"
), s1 AS NOT MATERIALIZED (
  SELECT
    *
  FROM s0
  WHERE
    c4 IN ($p0)
), s2 AS NOT MATERIALIZED (
  SELECT
    *
  FROM s1
  WHERE
    (
      REGEXP_MATCHES(c12, $p1)
    ) OR (
      LOWER(c20) IN (LOWER($p2), LOWER($p3))
    )
), s3 AS NOT MATERIALIZED (
  SELECT
    *,
    CONCAT(c12, $p4, c20) AS c44,
    CASE WHEN (
      c28 > CAST($p5 AS BIGINT)
    ) THEN $p6 ELSE $p7 END AS c45
  FROM s2
)
SELECT
  c44,
  c45
FROM s3
