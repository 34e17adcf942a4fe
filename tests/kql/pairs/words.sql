-- p0 = 'default'
-- p1 = '%mail-bot%'
-- p2 = '(?:\\A|[^\\pL\\pN])[Mm][Aa][I\\x{130}i][Ll]\\x{2D}[Bb][Oo][Tt](?:\\z|[^\\pL\\pN])'
-- p3 = 'send_email'
-- p4 = 'reply'
-- p5 = ' '
-- p6 = 'new'
-- p7 = 'old'
-- columns: Name:string, Took:string
SELECT
  CONCAT("AgentName", $p5, "ToolName") AS c68,
  CASE WHEN "PolicyVersion" > 3 THEN $p6 ELSE $p7 END AS c69
FROM "AgentActivity"
WHERE
  "TenantId" IN ($p0)
  AND (
    (
      (
        "AgentName" ILIKE $p1
      ) AND REGEXP_MATCHES("AgentName", $p2)
    )
    OR (
      LOWER("ToolName") IN (LOWER($p3), LOWER($p4))
    )
  )
